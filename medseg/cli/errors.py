"""What the user sees when something fails."""

import sys

from medseg.errors import MedsegError


def report_error(error: MedsegError) -> int:
    """Prints one message on standard error; returns the exit code."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    return error.exit_code
