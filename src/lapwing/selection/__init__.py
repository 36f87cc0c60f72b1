"""Which episodes are trained on, and how often."""
