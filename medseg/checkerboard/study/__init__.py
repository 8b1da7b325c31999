"""Checkerboard measures on real cases."""
