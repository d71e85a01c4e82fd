"""HEAR, the Holistic Evaluation of Audio Representations, as one pipeline from corpora to scores."""

__version__ = "0.1.0"
