"""Checks and images that people look at."""
