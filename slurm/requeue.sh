# shellcheck shell=bash
# What the batch scripts in this folder share; they source it.
#
# Before the time limit Slurm sends USR1 to the batch script (--signal=B:USR1@300); some sites send TERM. heareval then
# finishes its current steps and exits with 45 ("drained, N steps left"), and the job is put back into the queue: at
# most three times, and only if a step was finished since it last started.

readonly drained=45
readonly most_requeues=3
readonly cpus=${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}
launcher=() # what starts heareval on several nodes
runner=     # process number of the command that runs
signals=0   # how often this job was told to end
code=0      # exit code of the last command

# An element's own number may be that of the whole array, so it is named by both.
job=$SLURM_JOB_ID
if [[ ${SLURM_ARRAY_TASK_ID:-} ]]; then job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi

# Print a line to the job's log.
say() { echo "job $job on $(hostname): $*" >&2; }

# Print what Slurm knows of this job under a key such as JobState.
job_fact() { scontrol show job "$job" | sed -n "s/.*\b$1=\([^ ]*\).*/\1/p"; }

# Print when the job ends, in seconds since 1970, if it has a time limit.
end_time() { date -d "$(job_fact EndTime)" +%s 2>/dev/null; }

pass_signal_on() {
    signals=$((signals + 1))
    say "told to end; heareval finishes its current steps"
    if [[ $runner ]]; then kill -USR1 "$runner"; fi
}
trap pass_signal_on USR1 TERM

# Run a command and put its exit code into `code`.
run() {
    if ((signals)); then
        code=$drained
        return
    fi
    "$@" &
    runner=$!
    # A signal that came before the runner had a number.
    if ((signals)); then kill -USR1 "$runner"; fi
    wait "$runner"
    code=$?
    # A signal ends `wait`, but not the command.
    if ((signals)); then wait_while_draining; fi
    runner=
}

# Wait for the runner, and stop it if its current steps are not done a minute before the job ends. An embedding goes on
# later where it was stopped; other steps begin again.
wait_while_draining() {
    local end
    end=$(end_time)
    while kill -0 "$runner" 2>/dev/null; do
        if [[ $end ]] && (($(date +%s) >= end - 60)); then
            say "the time is over; the current steps are stopped"
            kill -TERM "$runner"
            end=
        fi
        sleep 1
    done
    wait "$runner"
    code=$?
    # It was stopped, or could not handle signals yet.
    if ((code > 128)); then code=$drained; fi
}

# Succeed if the job's log names a step that was finished since the job last started.
has_progress() {
    awk '/: put back into the queue/ { steps = 0 } /^\[step / { steps++ } END { exit !steps }' "/proc/$$/fd/2"
}

# Put a drained job back into the queue, or say why not.
requeue() {
    local restarts=${SLURM_RESTART_COUNT:-0}
    if [[ $(job_fact JobState) != RUNNING ]]; then
        say "not put back into the queue, as it was cancelled"
    elif ((restarts >= most_requeues)); then
        say "not put back into the queue again after $restarts times; submit it again to go on"
    elif ! has_progress; then
        say "not put back into the queue, as it has finished no step; a longer --time or an earlier --signal may help"
    else
        say "put back into the queue ($((restarts + 1)) of at most $most_requeues times)"
        trap '' USR1 TERM # Slurm ends what is left of the job
        scontrol requeue "$job"
    fi
}

# Run heareval with these words and end the job with its exit code.
#
# If a step fails or a runner is killed, heareval runs once more, alone, and that exit code counts: others may have
# done the steps of the killed one. If everything is complete, this last run has nothing to do.
run_heareval() {
    local heareval=(heareval "$1" --num-workers "$cpus" "${@:2}")
    run "${launcher[@]}" "${heareval[@]}"
    # A wrong command line (2) does not improve, and a job that is told to end has no time.
    if ((code != 0 && code != 2 && !signals)); then
        say "heareval ended with $code; it runs once more"
        run "${heareval[@]}"
    fi
    if ((code == drained)); then requeue; fi
    exit "$code"
}

if ! command -v heareval >/dev/null; then
    say "heareval is not on the PATH; activate its environment before you call sbatch"
    exit 127
fi
# Slurm sets this from version 23.02 on. By it heareval decides whether a TERM leaves time to drain.
if [[ ! ${SLURM_JOB_END_TIME:-} ]]; then
    SLURM_JOB_END_TIME=$(end_time) && export SLURM_JOB_END_TIME
fi
