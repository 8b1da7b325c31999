"""A trained network in forms that other programs run, each checked against the network."""
