"""The loop, the learner, stages, checkpoints and metrics."""
