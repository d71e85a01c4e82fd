#!/bin/bash
# Workers on any number of nodes, one per array element, that share the steps through a luigid.
#
#   export LUIGI_SCHEDULER=http://scheduler.internal:8082
#   sbatch --array=0-7 slurm/workers.sh prepare all
#
# Options before the script go to sbatch (--partition, --account, --time, --mem ...), words after it to heareval.
#SBATCH --job-name=heareval-workers
#SBATCH --array=0-3
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

if (($# == 0)); then
    say "usage: sbatch --array=0-7 $script prepare all"
    exit 2
fi
scheduler=()
if [[ " $*" != *" --scheduler-url"* ]]; then
    url=${LUIGI_SCHEDULER:-$(python -c '
from heareval.workflow.configuration import read_value

print(read_value("scheduler_url"))')}
    if [[ ! $url ]]; then
        say "got no luigid; set LUIGI_SCHEDULER=http://HOST:8082 or scheduler_url in luigi.cfg, or give --scheduler-url"
        exit 2
    fi
    scheduler=(--scheduler-url "$url")
fi

run_heareval "$1" "${scheduler[@]}" "${@:2}"
