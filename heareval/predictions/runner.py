"""`python -m heareval.predictions.runner embeddings/my_model/*` is `heareval predict`, as in 2021."""

from heareval.commands.predict import predict

if __name__ == "__main__":
    predict()
