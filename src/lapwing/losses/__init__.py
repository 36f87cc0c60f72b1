"""Policy losses and regularisers: one number per token, to be minimised."""
