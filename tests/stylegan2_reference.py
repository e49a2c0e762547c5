"""StyleGAN 2 once more, straight from its description: NumPy, float64, NCHW, one kernel per example.

State dicts are those of stylegan2-ada-pytorch. `random_generator` and `random_discriminator` make some.
"""

import numpy as np

FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def correlate(x, kernel, stride=1):
  """`x [N, I, H, W]` with `kernel [O, I, k, k]` or one for each example, `[N, O, I, k, k]`; no padding."""
  size = kernel.shape[-1]
  kernel = kernel if kernel.ndim == 5 else np.broadcast_to(kernel, (len(x), *kernel.shape))
  height, width = x.shape[2] - size + 1, x.shape[3] - size + 1
  return sum(
    np.einsum('nihw,noi->nohw', x[:, :, a : a + height : stride, b : b + width : stride], kernel[..., a, b])
    for a in range(size)
    for b in range(size)
  )


def pad(x, before, after):
  return np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)))


def fir(x):
  """The filter on each channel, no padding."""
  height, width = x.shape[2] - 3, x.shape[3] - 3
  return sum(FILTER[a, b] * x[:, :, a : a + height, b : b + width] for a in range(4) for b in range(4))


def insert_zeros(x):
  y = np.zeros((*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3]))
  y[:, :, ::2, ::2] = x
  return y


def upsample(x):
  return 4 * fir(pad(insert_zeros(x), 2, 1))


def transposed(x, kernel):
  """`out[2i + a, 2j + b] += x[i, j] kernel[n, o, i, a, b]`."""
  height, width = x.shape[2], x.shape[3]
  out = np.zeros((len(x), kernel.shape[1], 2 * height + 1, 2 * width + 1))
  for a in range(3):
    for b in range(3):
      out[:, :, a : a + 2 * height : 2, b : b + 2 * width : 2] += np.einsum(
        'nihw,noi->nohw', x, kernel[..., a, b]
      )
  return out


def lrelu(x):
  return np.where(x > 0, x, 0.2 * x) * np.sqrt(2)


def clamp(x, limit):
  return x if limit is None else np.clip(x, -limit, limit)


def dense(state, name, x, lr=1.0):
  weight = state[f'{name}.weight'].astype(np.float64)
  return x @ (weight * lr / np.sqrt(weight.shape[1])).T + state[f'{name}.bias'] * lr


def normalise(x):
  return x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + 1e-8)


def mapping(state, z, labels):
  """One row: `[N, D]`. Either of `z` and `labels` may be None."""
  parts = [] if z is None else [normalise(z.astype(np.float64))]
  if labels is not None:
    parts.append(normalise(dense(state, 'mapping.embed', labels)))
  x = np.concatenate(parts, axis=1)
  i = 0
  while f'mapping.fc{i}.weight' in state:
    x = lrelu(dense(state, f'mapping.fc{i}', x, 0.01))
    i += 1
  return x


def styled_conv(state, name, x, w, up, conv_clamp, with_noise):
  weight = state[f'{name}.weight'].astype(np.float64)
  kernel = weight[None] * dense(state, f'{name}.affine', w)[:, None, :, None, None]
  kernel = kernel / np.sqrt(np.sum(kernel**2, axis=(2, 3, 4), keepdims=True) + 1e-8)
  x = 4 * fir(pad(transposed(x, kernel), 1, 1)) if up else correlate(pad(x, 1, 1), kernel)
  if with_noise:
    x = x + state[f'{name}.noise_strength'] * state[f'{name}.noise_const']
  return clamp(lrelu(x + state[f'{name}.bias'][:, None, None]), conv_clamp)


def to_rgb(state, name, x, w, conv_clamp):
  scale = dense(state, f'{name}.affine', w) / np.sqrt(x.shape[1])
  kernel = state[f'{name}.weight'][None] * scale[:, None, :, None, None]
  return clamp(correlate(x, kernel) + state[f'{name}.bias'][:, None, None], conv_clamp)


def synthesis(state, ws, conv_clamp=None, with_noise=True):
  """`ws [N, L, D]` to images `[N, C, R, R]`."""
  x = np.broadcast_to(state['synthesis.b4.const'], (len(ws), *state['synthesis.b4.const'].shape))
  image, row, size = None, 0, 4
  while f'synthesis.b{size}.conv1.weight' in state:
    block = f'synthesis.b{size}'
    for name, up in (('conv0', True), ('conv1', False)):
      if f'{block}.{name}.weight' in state:
        x = styled_conv(state, f'{block}.{name}', x, ws[:, row], up, conv_clamp, with_noise)
        row += 1
    rgb = to_rgb(
      state, f'{block}.torgb', x, ws[:, row], conv_clamp
    )  # And the next block takes the row again.
    image = rgb if image is None else upsample(image) + rgb
    size *= 2
  return image


def equalised(state, name, gain=1.0):
  weight = state[f'{name}.weight'].astype(np.float64)
  return weight * gain / np.sqrt(np.prod(weight.shape[1:]))


def discriminator(state, images, labels=None, conv_clamp=None, group_size=4):
  """`images [N, C, R, R]` to scores `[N]`."""
  size = images.shape[2]
  half = np.sqrt(0.5)

  def bias(name):
    return state[f'{name}.bias'][:, None, None]

  x = correlate(images.astype(np.float64), equalised(state, f'b{size}.fromrgb'))
  x = clamp(lrelu(x + bias(f'b{size}.fromrgb')), conv_clamp)
  while size > 4:
    block = f'b{size}'
    y = correlate(fir(pad(x, 1, 1))[:, :, ::2, ::2], equalised(state, f'{block}.skip')) * half
    x = correlate(pad(x, 1, 1), equalised(state, f'{block}.conv0')) + bias(f'{block}.conv0')
    x = clamp(lrelu(x), conv_clamp)
    x = correlate(fir(pad(x, 2, 2)), equalised(state, f'{block}.conv1'), stride=2) + bias(f'{block}.conv1')
    x = clamp(lrelu(x) * half, None if conv_clamp is None else conv_clamp * half) + y
    size //= 2
  num_features = state['b4.conv.weight'].shape[1] - x.shape[1]
  for part in np.split(x, num_features, axis=1) if num_features else ():
    groups = part.reshape(min(group_size or len(x), len(x)), -1, *part.shape[1:])
    deviation = np.sqrt(groups.var(axis=0) + 1e-8).mean(axis=(1, 2, 3))
    deviation = np.tile(deviation, len(groups))[:, None, None, None]
    x = np.concatenate([x, np.broadcast_to(deviation, (len(x), 1, 4, 4))], axis=1)
  x = clamp(lrelu(correlate(pad(x, 1, 1), equalised(state, 'b4.conv')) + bias('b4.conv')), conv_clamp)
  x = lrelu(dense(state, 'b4.fc', x.reshape(len(x), -1)))
  x = dense(state, 'b4.out', x)
  if labels is None:
    return x[:, 0]
  if 'mapping.embed.weight' not in state:
    return np.sum(x * labels, axis=1)
  return np.sum(x * mapping(state, None, labels), axis=1) / np.sqrt(x.shape[1])


class _Draw:
  """Arrays of normal numbers by name."""

  def __init__(self, seed):
    self.rng = np.random.default_rng(seed)
    self.state = {}

  def add(self, name, *shape, scale=1.0, around=0.0):
    self.state[name] = (around + scale * self.rng.standard_normal(shape)).astype(np.float32)

  def layer(self, name, *shape, lr=1.0):
    self.add(f'{name}.weight', *shape, scale=1 / lr)
    self.add(f'{name}.bias', shape[0], scale=0.3 / lr)

  def mapping(self, z_size, label_size, embed_size, hidden, out, num_layers):
    if label_size:
      self.layer('mapping.embed', embed_size, label_size)
    widths = [z_size + (embed_size if label_size else 0), *[hidden] * (num_layers - 1), out]
    for i in range(num_layers):
      self.layer(f'mapping.fc{i}', widths[i + 1], widths[i], lr=0.01)

  def styled(self, name, *shape, w_size):
    self.layer(name, *shape)
    self.add(f'{name}.affine.weight', shape[1], w_size)
    self.add(f'{name}.affine.bias', shape[1], scale=0.3, around=1.0)


def random_generator(fmaps, z_size=5, w_size=6, label_size=0, embed_size=7, hidden=8, num_layers=3, seed=0):
  draw = _Draw(seed)
  draw.mapping(z_size, label_size, embed_size, hidden, w_size, num_layers)
  draw.add('mapping.w_avg', w_size)
  draw.add('synthesis.b4.const', fmaps[0], 4, 4)
  for k, channels in enumerate(fmaps):
    block, size = f'synthesis.b{4 * 2**k}', 4 * 2**k
    below = {'conv0': fmaps[k - 1], 'conv1': channels}
    for name in ('conv1',) if k == 0 else ('conv0', 'conv1'):
      draw.styled(f'{block}.{name}', channels, below[name], 3, 3, w_size=w_size)
      draw.add(f'{block}.{name}.noise_strength', scale=0.3)
      draw.add(f'{block}.{name}.noise_const', size, size)
    draw.styled(f'{block}.torgb', 3, channels, 1, 1, w_size=w_size)
  return draw.state


def random_discriminator(
  fmaps, label_size=0, embed_size=7, cmap_size=5, hidden=8, num_layers=2, num_features=1, seed=1
):
  """Labels of size n and `cmap_size` 0: they are multiplied with the n outputs themselves."""
  draw = _Draw(seed)
  size = 2 ** (len(fmaps) + 1)
  draw.layer(f'b{size}.fromrgb', fmaps[-1], 3, 1, 1)
  for k in range(len(fmaps) - 1, 0, -1):
    block = f'b{4 * 2**k}'
    draw.layer(f'{block}.conv0', fmaps[k], fmaps[k], 3, 3)
    draw.layer(f'{block}.conv1', fmaps[k - 1], fmaps[k], 3, 3)
    draw.add(f'{block}.skip.weight', fmaps[k - 1], fmaps[k], 1, 1)
  draw.layer('b4.conv', fmaps[0], fmaps[0] + num_features, 3, 3)
  draw.layer('b4.fc', fmaps[0], 16 * fmaps[0])
  if label_size and cmap_size:
    draw.mapping(0, label_size, embed_size, hidden, cmap_size, num_layers)
  draw.layer('b4.out', (cmap_size or label_size) if label_size else 1, fmaps[0])
  return draw.state
