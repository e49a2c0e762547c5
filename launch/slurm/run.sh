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
# Slurm itself would take an end within the time of grace for a failure. After scancel the job is completing, and this
# shell may learn of it later than the run: a new start would undo what the user wants.
state=$(squeue --noheader --format=%T --jobs="$SLURM_JOB_ID")
[ "$status" -ne 75 ] || [ "$state" = COMPLETING ] || exec scontrol requeue "$SLURM_JOB_ID"
exit "$status"
