"""One image file to RGB, resized, and cached as uint8."""
