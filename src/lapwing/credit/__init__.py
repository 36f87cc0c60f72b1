"""Credit assignment: pure functions from a batch to one advantage per step or token."""
