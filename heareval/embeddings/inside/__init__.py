"""The code that runs in the submission's environment: `python heareval/embeddings/inside JOB.json`."""
