"""Networks made of blocks, their description as data, their cost."""
