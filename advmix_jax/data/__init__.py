"""Data sets on the host: reading, splitting, colouring, ordering. uint8 images; deterministic by seed."""

from advmix_jax.data.batches import index_batches
from advmix_jax.data.splits import check_config, load, mean_colours, save_record

__all__ = ['check_config', 'index_batches', 'load', 'mean_colours', 'save_record']
