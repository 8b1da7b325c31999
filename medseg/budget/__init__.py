"""Networks of equal cost, and networks of a wanted reach."""
