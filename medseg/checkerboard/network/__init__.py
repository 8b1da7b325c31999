"""Asked of a whole network by a few forward passes."""
