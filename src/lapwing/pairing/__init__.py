"""Which episodes make a pair, which of the two is preferred, and how much the pair counts."""
