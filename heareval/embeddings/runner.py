"""`python -m heareval.embeddings.runner my_model --model weights.pt` is `heareval embed`, as in 2021."""

from heareval.commands import run_command

if __name__ == "__main__":
    run_command("embed")
