"""A network's audit: what it costs, needs and sees, layer by layer."""
