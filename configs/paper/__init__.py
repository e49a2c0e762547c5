"""The paper's figures and tables, one file each, for `python -m launch.reproduce NAME[:variant]`."""
