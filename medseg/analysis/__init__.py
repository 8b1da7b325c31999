"""Cost, memory and receptive field of a network, before it is trained."""
