"""Annotators add columns to a batch."""
