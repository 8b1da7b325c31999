"""A trained network behind HTTP: one volume up, its label map back, and a page to look at both."""
