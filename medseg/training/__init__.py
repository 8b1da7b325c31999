"""The optimisation of a network: module, callbacks, checkpoints, trainer."""
