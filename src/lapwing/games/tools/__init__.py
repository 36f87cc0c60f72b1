"""Tools that an agent may call, and what their results are worth."""
