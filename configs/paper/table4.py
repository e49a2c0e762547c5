"""Table 4, CelebA under perturbation: of the runs of table 3, whose file this is by another name.

python -m launch.reproduce table4[:VARIANT] --workdir=runs/table3 --config.data.dir=FOLDER_OF_CELEBA
"""

from configs.paper.table3 import get_config, sweep

__all__ = ['get_config', 'sweep']
