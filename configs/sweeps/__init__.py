"""Sweeps: `sweep(add)` beside `get_config` says which runs there are; `python -m launch.sweep` runs them."""
