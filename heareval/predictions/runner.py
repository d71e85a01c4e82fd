"""`python -m heareval.predictions.runner embeddings/my_model/*` is `heareval predict`, as in 2021."""

from heareval.commands import run_command

if __name__ == "__main__":
    run_command("predict")
