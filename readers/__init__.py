"""Readers of image sets in the layouts in which they are released."""
