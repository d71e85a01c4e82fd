"""Room 3: embeddings become predictors and scores."""
