"""The page of `medseg artifacts`."""
