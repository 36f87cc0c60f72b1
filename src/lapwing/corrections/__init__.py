"""Factors of the policy loss for what the sampler and the trainer say differently: one number per token."""
