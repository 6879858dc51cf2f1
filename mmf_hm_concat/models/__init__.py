"""Fusion of the features, the classification head, and the model built from them."""
