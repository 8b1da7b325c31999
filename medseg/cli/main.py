"""`medseg`: one command; a subcommand imports only what it needs."""

import importlib
import sys

from medseg import __version__
from medseg.cli.command import run_to_exit_code
from medseg.suggestion import choices

_COMMANDS = {
    "check": "find what is wrong with a dataset",
    "plan": "read a dataset and write what to train on it",
    "train": "train a network (Hydra overrides)",
    "ablate": "train a grid of networks, or show how far one has come",
    "models": "list the trained networks that come with medseg",
    "predict": "segment volumes with a trained network",
    "evaluate": "score label maps against the truth",
    "artifacts": "measure patterns that are locked to a network's strides",
    "report": "compare runs in one HTML, Markdown and CSV report",
    "audit": "show a network's cost and receptive field before it is trained",
    "explain": "work one operator through, with numbers",
    "match": "find the width at which two networks cost the same",
    "reach": "find the network whose receptive field has a given extent in mm",
    "convert": "rewrite a trained network into an equivalent one",
    "export": "write a trained network as ONNX, torch.export or a MONAI bundle",
    "serve": "segment volumes that are sent by HTTP, with a page to look at them",
    "operators": "list the blocks that can be swapped in, with their cost",
}
_MOVED = {"bench": "the benchmark is run from a checkout of the repository: make bench"}


def main() -> None:
    """Runs a subcommand and leaves with its exit code."""
    sys.exit(run_to_exit_code(lambda: _main(sys.argv[1:])))


def _main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"medseg {__version__}")
        return 0
    command, *arguments = words
    if command not in _COMMANDS:
        known = f"no command {command!r}; {choices(command, _COMMANDS)}"
        print(f"error: {_MOVED.get(command, known)}", file=sys.stderr)
        return 2
    return importlib.import_module(f"medseg.cli.{command}").main(arguments)


def _usage() -> str:
    rows = "\n".join(f"  {name:<9} {what}" for name, what in _COMMANDS.items())
    return f"usage: medseg COMMAND …\n\n{rows}\n\n`medseg COMMAND --help` explains a command."


if __name__ == "__main__":
    main()
