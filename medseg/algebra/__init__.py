"""Operators as matrices, and operators that are others in disguise."""
