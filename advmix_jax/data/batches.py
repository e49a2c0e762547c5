"""Order of the training examples: random access by step, so that resuming needs no iterator state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
  import grain


def index_batches(num_examples: int, batch_size: int, seed: int) -> grain.MapDataset:
  """Shuffled batches of indices, reshuffled every epoch; nothing is dropped.

  A batch may hold the end of one epoch and the start of the next; every run of `num_examples` indices
  from a multiple of `num_examples` on holds each example once.

    batches = index_batches(len(dataset), 64, seed=0)
    index = batches[step]  # Any step, in any order; always the same for the same step.

  Args:
    num_examples: size of the data set.
    batch_size: indices in a batch; may exceed `num_examples`.
    seed: of the order.

  Returns:
    A data set of `[batch_size]` int32 indices in [0, num_examples), without end.
  """
  import grain  # Only here, for it brings orbax along: half a second, which evaluation can do without.

  return (
    grain.MapDataset.range(num_examples)
    .seed(seed)
    .shuffle()
    .repeat()
    .batch(batch_size, batch_fn=lambda indices: np.asarray(indices, np.int32))
  )
