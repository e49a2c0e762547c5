"""Entry points: thin, one per stage; run with `python -m launch.NAME`."""
