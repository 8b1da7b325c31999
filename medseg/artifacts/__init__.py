"""What the strides print on real cases, measured while they are predicted, and its figures."""
