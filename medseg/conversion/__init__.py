"""Operators as matrices, and networks rewritten into equivalent ones."""
