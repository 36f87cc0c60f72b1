"""Build torch models and score with them."""
