#!/bin/bash
# One `heareval evaluate` per submission, one per array element: for hundreds of submissions.
#
#   sbatch --array=1-300%20 slurm/submissions.sh submissions.txt --tasks all
#
# The file has a submission per line, as you would type it after `heareval evaluate`: my_model.toml, or
# my_model --model weights.pt. Element i takes line i. Empty lines and lines that begin with # don't count.
# Options before the script go to sbatch (--partition, --account, --time, --mem, --gres ...), words after the file to
# heareval. Prepare the tasks first (workers.sh or one_job.sh), or set LUIGI_SCHEDULER so that they are prepared once.
#SBATCH --job-name=heareval-submissions
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=heareval-%A_%a.log

# sbatch runs a copy of this file; Slurm knows where the original is.
script=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=//p' | head -n 1)
script=${script%" $*"}
# shellcheck source-path=SCRIPTDIR source=requeue.sh
source "$(dirname "$script")/requeue.sh" || exit

if [[ ! ${SLURM_ARRAY_TASK_ID:-} || ! -r ${1:-} ]]; then
    say "usage: sbatch --array=1-300%20 $script submissions.txt --tasks all"
    exit 2
fi
line=$(grep -v '^[[:space:]]*\(#\|$\)' "$1" | sed -n "${SLURM_ARRAY_TASK_ID}p")
if [[ ! $line ]]; then
    say "$1 has no submission number $SLURM_ARRAY_TASK_ID"
    exit 2
fi
say "$line"
# xargs takes quotes as a shell does, and runs nothing.
if ! words=$(xargs printf '%s\n' <<<"$line"); then
    say "submission number $SLURM_ARRAY_TASK_ID of $1 has a quote that is not closed"
    exit 2
fi
mapfile -t submission <<<"$words"
scheduler=()
if [[ ${LUIGI_SCHEDULER:-} ]]; then scheduler=(--scheduler-url "$LUIGI_SCHEDULER"); fi

run_heareval evaluate "${submission[@]}" "${scheduler[@]}" "${@:2}"
