"""`medseg`: one command; a subcommand imports only what it needs."""

import importlib
import os
import sys

from medseg import __version__

_COMMANDS = {
    "train": "train a network (Hydra overrides)",
    "ablate": "train a grid of networks, or say how far one has come",
    "predict": "segment volumes with a trained network",
    "artifacts": "measure patterns that are locked to a network's strides",
    "report": "compare runs in one HTML, Markdown and CSV report",
    "audit": "say what a network costs and sees, before it is trained",
    "explain": "work one operator through",
    "match": "find the width at which two networks cost the same",
    "reach": "say which network sees a given extent in mm",
    "convert": "rewrite a trained network into an equivalent one",
    "operators": "list the blocks that can be swapped in, with their cost",
    "bench": "moved: make bench, or python -m benchmarks, in a checkout",
}

_PIPE_CLOSED = 141  # as a shell counts a process that SIGPIPE ended


def main() -> None:
    """Hands over to the subcommand."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        print(f"medseg {__version__}")
        sys.exit(0)
    command = arguments[0]
    if command not in _COMMANDS:
        print(f"error: no command {command!r}; choose from {', '.join(_COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"{sys.argv[0]} {command}", *arguments[1:]]
    try:
        code = importlib.import_module(f"medseg.cli.{command}").main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, `head` say, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _PIPE_CLOSED
    sys.exit(code)


def _usage() -> str:
    rows = "\n".join(f"  {name:<9} {what}" for name, what in _COMMANDS.items())
    return f"usage: medseg COMMAND …\n\n{rows}\n\n`medseg COMMAND --help` explains a command."


if __name__ == "__main__":
    main()
