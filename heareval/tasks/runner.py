"""`python -m heareval.tasks.runner speech_commands` is `heareval prepare`, as in 2021."""

from heareval.commands.prepare import prepare

if __name__ == "__main__":
    prepare()
