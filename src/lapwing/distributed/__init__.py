"""Beyond one process: ranks that train together."""
