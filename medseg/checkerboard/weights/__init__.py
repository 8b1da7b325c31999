"""Read off the weights of single layers: exact, no image needed."""
