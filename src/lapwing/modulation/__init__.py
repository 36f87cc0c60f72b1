"""Modulation: functions from a batch and its advantage to another advantage of the same shape."""
