"""`medseg bench`: names the command that replaced it."""

import sys


def main(argv: list[str] | None = None) -> int:
    """Prints where the benchmark is; returns the exit code of a usage error."""
    print(
        "error: medseg bench: the benchmark is no part of the package any more; "
        "run `make bench`, or `python -m benchmarks OPTIONS`, in a checkout of medseg",
        file=sys.stderr,
    )
    return 2
