"""Which episodes carry a signal at all."""
