"""Layers that torch lacks, or has and leaves slow; the blocks are built of them and torch's own."""
