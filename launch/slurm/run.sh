#!/bin/sh
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR2@120
# A run under Slurm, from the folder of the repository:
#
#   sbatch [flags of sbatch] launch/slurm/run.sh launch.pipeline --config=FILE --workdir=DIR [...]
#
# Two minutes before the time limit, and when the job is preempted, the run saves, ends with 75, and is put into the
# queue again, where it goes on. $ADVMIX_VENV is the virtual environment, .venv unless set.
srun --kill-on-bad-exit=1 "${ADVMIX_VENV:-.venv}/bin/python" -m "$@"
status=$?
# Slurm itself would take an end within the time of grace for a failure. No trap: after scancel this shell must end.
[ "$status" -ne 75 ] || exec scontrol requeue "$SLURM_JOB_ID"
exit "$status"
