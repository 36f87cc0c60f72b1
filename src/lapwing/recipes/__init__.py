"""Recipes, shipped as TOML."""
