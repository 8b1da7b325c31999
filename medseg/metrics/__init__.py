"""Measurement: how well a label map agrees with the truth, and what the strides print."""
