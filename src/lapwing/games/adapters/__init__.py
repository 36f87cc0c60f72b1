"""Environments of other packages as games, and games as their environments; each needs its extra."""
