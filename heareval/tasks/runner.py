"""`python -m heareval.tasks.runner speech_commands` is `heareval prepare`, as in 2021."""

from heareval.commands import run_command

if __name__ == "__main__":
    run_command("prepare")
