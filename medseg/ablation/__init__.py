"""A grid of runs: which there are, what makes them equal, how far they have come."""
