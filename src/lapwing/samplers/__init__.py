"""Samplers draw matches and review finished groups."""
