"""Figure 7 as a sweep, by the name it had first: it is configs/paper/figure7.py.

python -m launch.sweep --config=configs/sweeps/figure7.py:cpu --out=runs/figure7 --config.data.dir=DIR
"""

from configs.paper.figure7 import get_config, sweep

__all__ = ['get_config', 'sweep']
