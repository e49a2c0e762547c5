"""StyleGAN 1 once more, slowly, in double precision and NCHW, by the names of the official variables.

Written from the description alone; shares no code with the networks it checks: upsampling convolutions from
128 pixels on are scattered pixel by kernel entry, growing is the sum over all resolutions.
"""

import numpy as np


def random_variables(
  resolution, fmaps, rng, *, latent=12, w_size=14, hidden=10, labels=0, channels=3, structure='linear'
):
  """Official variables of (G with its parts, D), every one away from its initial value."""

  def draw(*shape):
    return rng.standard_normal(shape).astype(np.float32)

  count = int(np.log2(resolution)) - 1
  names = [4 * 2**r for r in range(count)]
  whole = {'lod': np.float32(0), 'dlatent_avg': draw(w_size)}
  synthesis = {'lod': np.float32(0)} | {
    f'noise{i}': draw(1, 1, names[i // 2], names[i // 2]) for i in range(2 * count)
  }
  synthesis['4x4/Const/const'] = draw(1, fmaps[0], 4, 4)
  for r, size in enumerate(names):
    for k, layer in enumerate(('Const', 'Conv') if r == 0 else ('Conv0_up', 'Conv1')):
      name, out = f'{size}x{size}/{layer}', fmaps[r]
      if layer != 'Const':
        synthesis[f'{name}/weight'] = draw(3, 3, fmaps[r - 1] if r and not k else out, out)
      synthesis |= {f'{name}/Noise/weight': 0.3 * draw(out), f'{name}/bias': 0.3 * draw(out)}
      synthesis |= {
        f'{name}/StyleMod/weight': draw(w_size, 2 * out),
        f'{name}/StyleMod/bias': 0.3 * draw(2 * out),
      }
    lod = count - 1 - r
    if lod == 0 or structure == 'linear':
      synthesis |= {
        f'ToRGB_lod{lod}/weight': draw(1, 1, fmaps[r], channels),
        f'ToRGB_lod{lod}/bias': draw(channels),
      }
  widths = [latent * (2 if labels else 1)] + [hidden] * 7 + [w_size]
  mapping = {'LabelConcat/weight': draw(labels, latent)} if labels else {}
  for i in range(8):
    mapping |= {
      f'Dense{i}/weight': 100 * draw(*widths[i : i + 2]),
      f'Dense{i}/bias': 30 * draw(widths[i + 1]),
    }

  d = {'lod': np.float32(0)}
  for r in reversed(range(count)):
    lod, size = count - 1 - r, names[r]
    if lod == 0 or structure == 'linear':
      d |= {
        f'FromRGB_lod{lod}/weight': draw(1, 1, channels, fmaps[r]),
        f'FromRGB_lod{lod}/bias': 0.3 * draw(fmaps[r]),
      }
    if r:
      d |= {
        f'{size}x{size}/Conv0/weight': draw(3, 3, fmaps[r], fmaps[r]),
        f'{size}x{size}/Conv0/bias': 0.3 * draw(fmaps[r]),
      }
      d |= {f'{size}x{size}/Conv1_down/weight': draw(3, 3, fmaps[r], fmaps[r - 1])}
      d |= {f'{size}x{size}/Conv1_down/bias': 0.3 * draw(fmaps[r - 1])}
  f = fmaps[0]
  d |= {'4x4/Conv/weight': draw(3, 3, f + 1, f), '4x4/Conv/bias': 0.3 * draw(f)}
  d |= {'4x4/Dense0/weight': draw(16 * f, f + 1), '4x4/Dense0/bias': 0.3 * draw(f + 1)}
  d |= {'4x4/Dense1/weight': draw(f + 1, max(labels, 1)), '4x4/Dense1/bias': draw(max(labels, 1))}
  return whole, synthesis, mapping, d


def lrelu(x):
  return np.where(x > 0, x, 0.2 * x)


def weight(v, name, gain=2**0.5, lrmul=1.0):
  w = v[f'{name}/weight'].astype(np.float64)
  return w * gain / np.sqrt(np.prod(w.shape[:-1])) * lrmul


def bias(v, name, lrmul=1.0):
  b = v[f'{name}/bias'].astype(np.float64) * lrmul
  return b[None, :, None, None]


def dense(v, name, x, gain=2**0.5, lrmul=1.0):
  return x @ weight(v, name, gain, lrmul) + bias(v, name, lrmul)[:, :, 0, 0]


def conv(x, w):
  """Cross-correlation of `x [N, C, H, W]` with `w [k, k, C, O]`, zeros around."""
  k, (height, width) = w.shape[0], x.shape[2:]
  pad = k // 2
  x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
  return sum(
    np.einsum('nchw,co->nohw', x[:, :, a : a + height, b : b + width], w[a, b])
    for a in range(k)
    for b in range(k)
  )


def blur(x):
  filters = np.outer([1, 2, 1], [1, 2, 1]) / 16
  height, width = x.shape[2:]
  x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
  return sum(filters[a, b] * x[:, :, a : a + height, b : b + width] for a in range(3) for b in range(3))


def up2(x):
  return x.repeat(2, axis=2).repeat(2, axis=3)


def mean2x2(x):
  return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def four_by_four(w):
  w = np.pad(w, ((1, 1), (1, 1), (0, 0), (0, 0)))
  return w[1:, 1:] + w[:-1, 1:] + w[1:, :-1] + w[:-1, :-1]


def upscale_conv(x, w, fused):
  if not fused:
    return conv(up2(x), w)
  n, _, height, width = x.shape
  out, k4 = np.zeros((n, w.shape[3], 2 * height + 2, 2 * width + 2)), four_by_four(w)
  for a in range(4):
    for b in range(4):  # out[2i + a - 1, 2j + b - 1] += x[i, j] k4[a, b], one pixel further in.
      out[:, :, a : a + 2 * height : 2, b : b + 2 * width : 2] += np.einsum('nchw,co->nohw', x, k4[a, b])
  return out[:, :, 1:-1, 1:-1]


def downscale_conv(x, w, fused):
  if not fused:
    return mean2x2(conv(x, w))
  height, width = x.shape[2:]
  x, k4 = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), four_by_four(w) / 4
  return sum(
    np.einsum('nchw,co->nohw', x[:, :, a : a + height : 2, b : b + width : 2], k4[a, b])
    for a in range(4)
    for b in range(4)
  )


def map_z(v, z, labels=None):
  x = z.astype(np.float64)
  if labels is not None:
    x = np.concatenate([x, labels @ v['LabelConcat/weight'].astype(np.float64)], axis=1)
  x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-8)
  for i in range(8):
    x = lrelu(dense(v, f'Dense{i}', x, lrmul=0.01))
  return x


def synthesis(v, w, lod=0.0, *, filtered=True, fused_from=128):
  """Images `[N, C, R, R]` of `w [N, L, D]` with the noise among the variables."""
  count = w.shape[1] // 2
  x = image = None
  for r in range(count):
    size = 4 * 2**r
    for k, layer in enumerate(('Const', 'Conv') if r == 0 else ('Conv0_up', 'Conv1')):
      i, name = 2 * r + k, f'{size}x{size}/{layer}'
      if layer == 'Const':
        x = np.repeat(v[f'{name}/const'].astype(np.float64), len(w), axis=0)
      elif layer == 'Conv0_up':
        x = upscale_conv(x, weight(v, name), size >= fused_from)
        x = blur(x) if filtered else x
      else:
        x = conv(x, weight(v, name))
      x = x + v[f'noise{i}'].astype(np.float64) * v[f'{name}/Noise/weight'][None, :, None, None]
      x = lrelu(x + bias(v, name))
      x = x - x.mean(axis=(2, 3), keepdims=True)
      x = x / np.sqrt((x**2).mean(axis=(2, 3), keepdims=True) + 1e-8)
      style = dense(v, f'{name}/StyleMod', w[:, i].astype(np.float64), gain=1.0).reshape(len(w), 2, -1, 1, 1)
      x = x * (style[:, 0] + 1) + style[:, 1]
    number = count - 1 - r
    if f'ToRGB_lod{number}/weight' in v:
      rgb = f'ToRGB_lod{number}'
      y = conv(x, weight(v, rgb, gain=1.0)) + bias(v, rgb)
      image = y if image is None else y + (up2(image) - y) * np.clip(lod - number, 0, 1)
  return image


def scores(v, images, labels=None, lod=0.0, *, filtered=True, group=4, parts=1):
  """`[N]`."""
  count = sum(name.endswith('Conv1_down/weight') for name in v) + 1
  image = images.astype(np.float64)

  def from_rgb(image, number):
    name = f'FromRGB_lod{number}'
    return lrelu(conv(image, weight(v, name)) + bias(v, name))

  x = from_rgb(image, 0)
  for number, r in enumerate(reversed(range(1, count))):
    size = 4 * 2**r
    name = f'{size}x{size}/Conv0'
    x = lrelu(conv(x, weight(v, name)) + bias(v, name))
    name = f'{size}x{size}/Conv1_down'
    x = downscale_conv(blur(x) if filtered else x, weight(v, name), size >= 128)
    x = lrelu(x + bias(v, name))
    image = mean2x2(image)
    if f'FromRGB_lod{number + 1}/weight' in v:
      x = x + (from_rgb(image, number + 1) - x) * np.clip(lod - number, 0, 1)
  n, channels = x.shape[:2]
  groups = x.reshape(min(group, n), -1, parts, channels // parts, 4, 4)
  deviation = np.sqrt(((groups - groups.mean(axis=0)) ** 2).mean(axis=0) + 1e-8).mean(axis=(2, 3, 4))
  extra = np.concatenate([deviation] * len(groups))[:, :, None, None]
  x = np.concatenate([x, np.broadcast_to(extra, (n, parts, 4, 4))], axis=1)
  x = lrelu(conv(x, weight(v, '4x4/Conv')) + bias(v, '4x4/Conv'))
  x = lrelu(dense(v, '4x4/Dense0', x.reshape(n, -1)))
  x = dense(v, '4x4/Dense1', x, gain=1.0)
  return x[:, 0] if labels is None else (x * labels).sum(axis=1)
