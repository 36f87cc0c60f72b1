"""Shaping: functions from a batch to the same batch with other rewards."""
