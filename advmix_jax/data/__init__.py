"""Data sets on the host: reading, splitting, colouring, ordering. uint8 images; deterministic by seed."""

from advmix_jax.data.batches import index_batches as index_batches
from advmix_jax.data.collection import PARTS as PARTS
from advmix_jax.data.pictures import inspect as inspect
from advmix_jax.data.splits import check_config as check_config
from advmix_jax.data.splits import facts as facts
from advmix_jax.data.splits import load as load
from advmix_jax.data.splits import mean_colours as mean_colours
from advmix_jax.data.splits import save_record as save_record
