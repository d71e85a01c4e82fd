"""Room 2: task folders and a submission become embeddings."""
