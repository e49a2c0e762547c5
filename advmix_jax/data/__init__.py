"""Data sets on the host: reading, splitting, colouring, ordering. uint8 images; deterministic by seed."""

from advmix_jax.data.batches import index_batches
from advmix_jax.data.collection import PARTS
from advmix_jax.data.pictures import inspect
from advmix_jax.data.splits import check_config, facts, load, mean_colours, save_record

__all__ = [
  'PARTS',
  'check_config',
  'facts',
  'index_batches',
  'inspect',
  'load',
  'mean_colours',
  'save_record',
]
