"""Sweeps: many runs of one configuration that differ in a few keys, what they share made once.

`plan` says what there is to do, `state` what became of it, `local` and `slurm` do it, `collect` averages it.
Everything is in files under the folder of the sweep; there is no server.
"""
