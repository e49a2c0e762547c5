"""Small random networks in files of each kind that NVIDIA published: 16 pixels, six rows of w."""

import numpy as np

from tests import official_files as files
from tests import stylegan1_by_hand
from tests import stylegan2_reference as reference

FMAPS = (5, 4, 3)
G_STATE = reference.random_generator(FMAPS)
D_STATE = reference.random_discriminator(FMAPS)
TORCH_G = {
  'z_dim': 5, 'c_dim': 0, 'w_dim': 6, 'img_resolution': 16, 'img_channels': 3,
  'mapping_kwargs': files.EasyDict(num_layers=3, layer_features=8),
  'synthesis_kwargs': files.EasyDict(channel_base=99, num_fp16_res=4, conv_clamp=256),
}  # fmt: skip
TORCH_D = {
  'c_dim': 0, 'img_resolution': 16, 'img_channels': 3, 'channel_base': 99, 'num_fp16_res': 4,
  'conv_clamp': 256,
  'block_kwargs': {}, 'mapping_kwargs': {}, 'epilogue_kwargs': files.EasyDict(mbstd_group_size=8),
}  # fmt: skip


def torch_file(path, protocol=4, g=(), d=(), g_state=None, d_state=None):
  generator = files.module_of(g_state or G_STATE, 'Generator', TORCH_G | dict(g))
  discriminator = files.module_of(d_state or D_STATE, 'Discriminator', TORCH_D | dict(d))
  path.write_bytes(files.dump(files.ada(generator, discriminator), protocol))
  return path


def tf_file(path, protocol=4, **options):
  path.write_bytes(files.dump(files.tf_networks(G_STATE, D_STATE, **options), protocol))
  return path


def stylegan1_file(path, protocol=4, labels=0, **options):
  rng = np.random.default_rng(0)
  whole, synthesis, mapping, d = stylegan1_by_hand.random_variables(16, FMAPS, rng, labels=labels)
  options = {'resolution': 16, 'num_channels': 3, 'label_size': labels} | options
  parts = {
    'synthesis': files.network('G_synthesis', 'G_synthesis', synthesis, version=3, **options),
    'mapping': files.network('G_mapping', 'G_mapping', mapping, version=3, **options),
  }
  g, gs = (files.network(name, 'G_style', whole, parts, version=3, **options) for name in ('G', 'Gs'))
  sizes = {key: options[key] for key in ('resolution', 'num_channels', 'label_size')}
  d = files.network('D', 'D_basic', d, version=3, **sizes)
  path.write_bytes(files.dump((g, d, gs), protocol))
  return path


SOURCES = {'stylegan1': stylegan1_file, 'stylegan2': tf_file, 'ada': torch_file}
