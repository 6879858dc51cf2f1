"""A trained run to probabilities, submissions, ensembles and an ONNX file."""
