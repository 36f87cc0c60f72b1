"""From a selection of episodes to one weight per token."""
