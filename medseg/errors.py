"""What can go wrong, in the user's words, each with its exit code.

A message reads: the value, the rule it breaks, the remedy.
"""


class MedsegError(Exception):
    """A fault that the user can act on; shown as one line, without a stack trace."""

    exit_code = 1


class ConfigError(MedsegError):
    """An impossible, unknown or contradictory choice; found before any data is read."""

    exit_code = 2


class DataError(MedsegError):
    """An input file or dataset that must not be used as it is."""

    exit_code = 3


class ResourceError(MedsegError):
    """The machine cannot do it: disk, memory, device or permission."""

    exit_code = 4


class SignalError(MedsegError):
    """A signal asked the program to stop; what was done so far is saved."""

    def __init__(self, signum: int):
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
        self.exit_code = 128 + signum

    def __reduce__(self) -> tuple:
        return SignalError, (self.signum,)
