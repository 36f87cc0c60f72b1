"""Play matches."""
