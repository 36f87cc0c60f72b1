"""Games: rules as functions of state, no text."""
