"""Read off the output on real cases, block by block, and tested over cases."""
