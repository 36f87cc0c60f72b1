"""Audit: what each credit method says about the same episodes, held against the exact answer."""
