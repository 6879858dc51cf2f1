"""State and rules of a training: batch samplers, precision, early stopping, checkpoints."""
