"""Losses of pairs: one number per pair of which one is preferred, to be minimised."""
