#!/bin/bash
# One job on several nodes that brings its own luigid: there is no service to run beside it.
#
#   sbatch --nodes=4 slurm/one_job.sh prepare all
#
# Options before the script go to sbatch (--partition, --account, --time, --mem ...), words after it to heareval.
# If the other nodes can't reach this one by the name that `hostname -f` prints, set LUIGID_HOST to one they can.
#SBATCH --job-name=heareval
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --no-kill
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=heareval-%j.log

# sbatch runs a copy of this file; Slurm knows where the original is.
script=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=//p' | head -n 1)
script=${script%" $*"}
# shellcheck source-path=SCRIPTDIR source=requeue.sh
source "$(dirname "$script")/requeue.sh" || exit

if (($# == 0)); then
    say "usage: sbatch --nodes=4 $script prepare all"
    exit 2
fi

# The state is of use only while this job runs here, so it lies in a new folder of this node.
folder=$(mktemp -d) || exit
host=${LUIGID_HOST:-$(hostname -f)}
port=$(python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])') || exit

# Keep a luigid running, with the luigi.cfg that the runners use; TERM ends it.
keep_luigid() {
    local luigid
    trap 'kill "$luigid"; wait "$luigid"; exit' TERM
    trap '' USR1
    while true; do
        python -c '
from heareval.workflow.configuration import load_config

load_config()
from luigi.cmdline import luigid

luigid()' --address "$host" --port "$port" --state-path "$folder/luigid.state" >>"$folder/luigid.log" 2>&1 &
        luigid=$!
        wait "$luigid" 2>/dev/null
        say "luigid ended with $?; it is started again. Its last line: $(tail -n 1 "$folder/luigid.log")"
        sleep 1
    done
}
keep_luigid &
keeper=$!
trap 'kill "$keeper"; wait "$keeper"; rm -r "$folder"' EXIT
for ((tries = 0; ; tries++)); do
    if (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; then break; fi
    if ((tries == 120)); then
        say "luigid did not answer at $host:$port within 60 s. Its last line: $(tail -n 1 "$folder/luigid.log")"
        exit 50
    fi
    sleep 0.5
done
say "luigid answers at http://$host:$port"

launcher=(srun --kill-on-bad-exit=0 --no-kill --cpus-per-task="$cpus")
run_heareval "$1" --scheduler-url "http://$host:$port" "${@:2}"
