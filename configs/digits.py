"""The embedded default: scikit-learn's handwritten digits, each class in one colour, tested on any colour.

    python -m launch.pipeline --config=configs/digits.py --workdir=runs/digits

Nothing is downloaded.
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
  return default.get_config()
