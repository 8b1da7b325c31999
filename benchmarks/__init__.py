"""Every operator and every network measured beside its reference: `python -m benchmarks`."""
