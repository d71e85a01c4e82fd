#!/bin/sh
# Make again what is missing or has changed: tasks, scores of all submissions, and room on the disk.
# Copy this file to the folder with the work, the tasks and the virtual environment, and change what it runs:
# crontab, scrontab and systemd units start it there. It prints only what was changed and what failed, so
# that cron mails nothing after a night without news.
cd "$(dirname "$0")" || exit 2
# Schedulers set neither the PATH of a login nor its language.
PATH=$PWD/.venv/bin:$PATH
LC_ALL=C.UTF-8
export PATH LC_ALL

code=0
run() {
    heareval "$@" --quiet
    latest=$?
    # 75: another run is at work. The next rerun does what this one could not.
    [ "$code" -ne 0 ] || [ "$latest" -eq 75 ] || code=$latest
}

run prepare all
# A model is evaluated from the night on after its TOML file was put here.
set -- submissions/*.toml
[ ! -e "$1" ] || run evaluate "$@"
run clean --delete

# That of the first command that failed.
exit "$code"
