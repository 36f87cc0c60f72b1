"""Enumerate a finite game and solve it."""
