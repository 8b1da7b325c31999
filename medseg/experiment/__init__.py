"""One run, or a grid of runs: planned, trained, evaluated, recorded."""
