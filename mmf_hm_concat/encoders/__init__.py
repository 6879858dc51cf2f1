"""Text and image to feature vectors, each encoder with its own preprocessing."""
