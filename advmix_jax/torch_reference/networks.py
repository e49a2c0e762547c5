"""StyleGAN 1 and the classifiers in PyTorch, from parameters of this package as trees of numpy arrays.

Images are `[B, C, H, W]` float32 in [-1, 1]. A kernel arrives as `[k, k, I, O]`, a dense weight as `[I, O]`.
The learning rate is equalised: a weight is scaled when it is used.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Params = Mapping[str, Any]
SQRT2 = math.sqrt(2.0)


def parameter(array: Any) -> nn.Parameter:
  return nn.Parameter(torch.tensor(np.asarray(array)))


def kernel_parameter(array: Any) -> nn.Parameter:
  """`[k, k, I, O]` as `[O, I, k, k]`."""
  return parameter(np.ascontiguousarray(np.transpose(array, (3, 2, 0, 1))))


class EqualLinear(nn.Module):
  """Dense layer, `[B, I]` to `[B, O]`."""

  def __init__(self, params: Params, gain: float = SQRT2, lr_multiplier: float = 1.0):
    super().__init__()
    self.weight = parameter(np.ascontiguousarray(np.transpose(params['weight'])))
    self.bias = parameter(params['bias'])
    self.scale = gain / math.sqrt(self.weight.shape[1]) * lr_multiplier
    self.lr_multiplier = lr_multiplier

  def forward(self, x: Tensor) -> Tensor:
    return F.linear(x, self.weight * self.scale, self.bias * self.lr_multiplier)


class EqualConv(nn.Module):
  """Convolution that keeps the size; `params` without a bias have none."""

  def __init__(self, params: Params, gain: float = SQRT2):
    super().__init__()
    self.weight = kernel_parameter(params['weight'])
    self.bias = parameter(params['bias']) if 'bias' in params else None
    self.scale = gain / math.sqrt(math.prod(self.weight.shape[1:]))

  def forward(self, x: Tensor) -> Tensor:
    return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[2] // 2)


class Blur(nn.Module):
  """The filter `outer([1, 2, 1]) / 16` on each channel."""

  kernel: Tensor

  def __init__(self, channels: int):
    super().__init__()
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    self.register_buffer('kernel', torch.outer(line, line).expand(channels, 1, 3, 3).contiguous())

  def forward(self, x: Tensor) -> Tensor:
    return F.conv2d(x, self.kernel, padding=1, groups=self.kernel.shape[0])


class StyledLayer(nn.Module):
  """Convolution, noise, bias, activation, instance normalisation, style."""

  def __init__(self, params: Params, upsample: bool):
    super().__init__()
    self.conv = EqualConv({'weight': params['weight']}) if 'weight' in params else None
    channels = len(params['bias'])
    self.blur = Blur(channels) if upsample else None
    self.noise_weight = parameter(np.reshape(params['noise_weight'], (1, -1, 1, 1)))
    self.bias = parameter(np.reshape(params['bias'], (1, -1, 1, 1)))
    self.modulation = EqualLinear(params['modulation'], gain=1.0)

  def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
    """`x [B, I, H, W]`, row `w [B, D]`, `noise [1 or B, 1, R, R]` to `[B, C, R, R]`."""
    if self.blur is not None:
      x = F.interpolate(x, scale_factor=2.0, mode='nearest')
    if self.conv is not None:
      x = self.conv(x)
    if self.blur is not None:
      x = self.blur(x)
    x = F.leaky_relu(x + noise * self.noise_weight + self.bias, 0.2)
    x = F.instance_norm(x, eps=1e-8)
    scale, shift = self.modulation(w)[:, :, None, None].chunk(2, dim=1)
    return x * (scale + 1) + shift


class Generator(nn.Module):
  """Mapping and synthesis, with the constant noise of each layer."""

  def __init__(self, params: Params, noise: Sequence[Any]):
    super().__init__()
    depth, self.num_layers = len(params['mapping']), len(noise)
    self.latent_size: int = params['mapping']['dense_0']['weight'].shape[0]
    self.dense = nn.ModuleList(
      EqualLinear(params['mapping'][f'dense_{i}'], lr_multiplier=0.01) for i in range(depth)
    )
    self.layers = nn.ModuleList(
      StyledLayer(params[f'layers_{i}'], upsample=i > 0 and i % 2 == 0) for i in range(self.num_layers)
    )
    self.const = parameter(np.transpose(params['layers_0']['const'], (2, 0, 1))[None].copy())
    self.to_rgb = EqualConv(params['to_rgb'], gain=1.0)
    for i, n in enumerate(noise):
      self.register_buffer(f'noise_{i}', torch.tensor(np.transpose(n, (0, 3, 1, 2)).copy()))

  def constant_noise(self) -> list[Tensor]:
    return [self.get_buffer(f'noise_{i}') for i in range(self.num_layers)]

  def map_z(self, z: Tensor) -> Tensor:
    """`z [B, Z]` to `w [B, L, D]`, all rows equal."""
    x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
    for layer in self.dense:
      x = F.leaky_relu(layer(x), 0.2)
    return x[:, None].expand(-1, self.num_layers, -1)

  def synthesis(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
    """`w [B, L, D]` to images, not clipped; `noise` is `[1 or B, 1, R, R]` each, None the constant one."""
    noise = self.constant_noise() if noise is None else noise
    x = self.const.expand(w.shape[0], -1, -1, -1)
    for i, layer in enumerate(self.layers):
      x = layer(x, w[:, i], noise[i])
    return self.to_rgb(x)

  forward = synthesis


class Discriminator(nn.Module):
  """Images to scores `[B]`."""

  def __init__(self, params: Params):
    super().__init__()
    blocks = range(sum(name.startswith('convs_') for name in params))
    self.from_rgb = EqualConv(params['from_rgb'])
    self.convs = nn.ModuleList(EqualConv(params[f'convs_{i}']) for i in blocks)
    self.blurs = nn.ModuleList(Blur(len(params[f'convs_{i}']['bias'])) for i in blocks)
    self.downs = nn.ModuleList(EqualConv(params[f'downs_{i}']) for i in blocks)
    self.conv = EqualConv(params['conv'])
    self.dense = EqualLinear(params['dense'])
    self.out = EqualLinear(params['out'], gain=1.0)

  def features(self, images: Tensor) -> list[Tensor]:
    """Activations after each resolution's block."""
    x = F.leaky_relu(self.from_rgb(images), 0.2)
    found = []
    for conv, blur, down in zip(self.convs, self.blurs, self.downs, strict=True):
      x = F.leaky_relu(conv(x), 0.2)
      found.append(x)
      x = F.leaky_relu(F.avg_pool2d(down(blur(x)), 2), 0.2)
    return [*found, x]

  def forward(self, images: Tensor) -> Tensor:
    x = self.features(images)[-1]
    x = F.leaky_relu(self.conv(minibatch_stddev(x)), 0.2)
    x = F.leaky_relu(self.dense(x.flatten(1)), 0.2)
    return self.out(x)[:, 0]


def minibatch_stddev(x: Tensor, group_size: int = 4) -> Tensor:
  """Appends a channel: the mean standard deviation within each example's group, `n mod M` of M groups."""
  groups = x.reshape(min(group_size, x.shape[0]), -1, *x.shape[1:])
  deviation = torch.sqrt(groups.var(0, unbiased=False) + 1e-8).mean((1, 2, 3))
  channel = deviation.repeat(groups.shape[0])[:, None, None, None].expand(-1, 1, *x.shape[2:])
  return torch.cat([x, channel], dim=1)


class CNN(nn.Module):
  """Two blocks of two 3x3 convolutions and a 2x2 maximum, then a dense layer."""

  def __init__(self, params: Params, resolution: int):
    super().__init__()
    self.kernels = nn.ParameterList(kernel_parameter(params[f'conv_{i}']) for i in range(4))
    self.biases = nn.ParameterList(parameter(params[f'bias_{i}']) for i in range(4))
    self.dense = dense_on_pixels(params['dense'], resolution // 4)

  def forward(self, images: Tensor) -> Tensor:
    """Logits `[B, K]`."""
    x = (images + 1) / 2
    for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
      x = F.relu(F.conv2d(x, kernel, bias, padding=1))
      x = F.max_pool2d(x, 2) if i % 2 else x
    return self.dense(x.flatten(1))


class LinearClassifier(nn.Module):
  """One dense layer on the pixels."""

  def __init__(self, params: Params, resolution: int):
    super().__init__()
    self.dense = dense_on_pixels(params['dense'], resolution)

  def forward(self, images: Tensor) -> Tensor:
    """Logits `[B, K]`."""
    return self.dense((images.flatten(1) + 1) / 2)


def dense_on_pixels(params: Params, size: int) -> nn.Linear:
  """A dense layer on `[C, H, W]`, flattened, from one on `[H, W, C]`."""
  kernel = np.asarray(params['kernel'])
  num_classes = kernel.shape[1]
  layer = nn.Linear(kernel.shape[0], num_classes)
  turned = kernel.reshape(size, size, -1, num_classes).transpose(3, 2, 0, 1).reshape(num_classes, -1)
  layer.weight, layer.bias = parameter(turned.copy()), parameter(params['bias'])
  return layer
