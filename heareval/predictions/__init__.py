"""Room 3: train predictors on embeddings, and score them."""
