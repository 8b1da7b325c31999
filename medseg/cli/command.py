"""What all commands have in common: arguments in, one line per error and an exit code out."""

import argparse
import functools
import io
import logging
import os
import re
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, Protocol

from medseg.errors import ConfigError, MedsegError, ResourceError, SignalError
from medseg.formatting import encodable, one_line
from medseg.suggestion import suggestion

if TYPE_CHECKING:
    from rich.console import Console

    from medseg.report.tables import Table

_FILE_SUFFIXES = (
    *(".nii", ".gz", ".hdr", ".img", ".nrrd", ".mha", ".mhd", ".html", ".htm", ".md", ".csv"),
    *(".json", ".yaml", ".tex", ".txt", ".svg", ".png", ".pdf", ".safetensors", ".ckpt", ".pt"),
)
_PIPE_CLOSED = 141  # as a shell counts a process that SIGPIPE ended


class Main(Protocol):
    """The `main` of a command: its arguments, else those of the process, to an exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Runs the command; returns its exit code."""
        ...


def command(
    parser: Callable[[], argparse.ArgumentParser],
    *,
    stopped: str = "stopped",
    continued_by: str = "",
    log_level: int = logging.WARNING,
) -> Callable[[Callable[[argparse.Namespace], int | None]], Main]:
    """Turns a function of parsed arguments into the `main` of a command.

    The function imports torch and what else is slow by itself, so that `--help` and a usage error
    answer at once. It returns an exit code, None for 0, or raises a `MedsegError`.

    Args:
        parser: Makes the parser of the command.
        stopped: What is printed after Ctrl-C.
        continued_by: The option with which the same command goes on; printed then as well.
        log_level: Of the messages that are shown.
    """

    def decorate(body: Callable[[argparse.Namespace], int | None]) -> Main:
        @functools.wraps(body)
        def main(argv: Sequence[str] | None = None) -> int:
            own = parser()
            arguments = own.parse_intermixed_args(argv)
            if getattr(arguments, "overwrite", False) and arguments.output is None:
                own.error("--overwrite has no effect without -o")
            end = stopped
            if continued_by:
                words = [*own.prog.split(), *(sys.argv[1:] if argv is None else argv)]
                words += [] if continued_by in words else [continued_by]
                end = f"{stopped}; continue with: {shlex.join(words)}"
            return run_to_exit_code(lambda: body(arguments), stopped=end, log_level=log_level)

        return main

    return decorate


def run_to_exit_code(
    body: Callable[[], int | None], *, stopped: str = "stopped", log_level: int = logging.WARNING
) -> int:
    """Runs a command's body; prints an error as one line and returns the exit code."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger().setLevel(log_level)
    logging.setLogRecordFactory(_Record)
    logging.raiseExceptions = False  # a terminal that takes no more lines is no reason to stop
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # names of files and formulas may hold what the terminal's encoding cannot show
            stream.reconfigure(errors="backslashreplace")
    former = signal.signal(signal.SIGTERM, _raise_signal)
    try:
        return _flushed(body() or 0)
    except SignalError as error:
        print(f"error: {error}; {stopped}", file=sys.stderr)
        return error.exit_code
    except MedsegError as error:
        return report_error(error)
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return SignalError(signal.SIGINT).exit_code
    except BrokenPipeError:  # whoever read the output, `head` say, has had enough
        _leave_output()
        return _PIPE_CLOSED
    except OSError as error:
        where = error.filename or "output"
        remedy = "check that it is there, its permissions and the free space"
        code = report_error(ResourceError(f"{where}: {error.strerror or error}; {remedy}"))
        _leave_output_if_full()
        return code
    finally:
        signal.signal(signal.SIGTERM, former)


def _flushed(code: int) -> int:
    """The exit code of a command that is done, once its last lines are out."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _leave_output()
        reason = error.strerror or error
        return report_error(
            ResourceError(
                f"standard output: {reason}; the work is done, the last lines are not shown"
            )
        )
    return code


def _leave_output_if_full() -> None:
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        _leave_output()


def _leave_output() -> None:
    """Lets nothing more go to standard output; Python would fail on it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def report_error(error: MedsegError) -> int:
    """Prints an error on standard error, a line for each of its parts; returns the exit code."""
    lines = "\n  ".join(one_line(str(part)) for part in error.args)
    print(f"error: {lines}", file=sys.stderr, flush=True)
    return error.exit_code


class Parser(argparse.ArgumentParser):
    """A parser that answers a wrong word with the one that was probably meant."""

    def error(self, message: str) -> NoReturn:
        """Prints usage and message; leaves with exit code 2."""
        meant = self._meant(message)
        super().error(f"{message}; {meant}" if meant else message)

    def _meant(self, message: str) -> str:
        kind, _, rest = message.partition(": ")
        if kind == "unrecognized arguments":
            word = rest.split()[0].partition("=")[0]
            options = [text for action in self._actions for text in action.option_strings]
            meant = suggestion(word, options)
            if meant or all(action.dest != "overrides" for action in self._actions):
                return meant
            from medseg.experiment.schema import RULES

            meant = suggestion(word.strip("-").replace("-", "_"), RULES)
            return meant.replace("?", "=…?") or "overrides have no dashes, trainer.epochs=20"
        wrong = re.search(r"invalid choice: '([^']*)'", message)
        for action in self._actions:
            if wrong and action.choices and "/".join(action.option_strings) in kind:
                return suggestion(wrong[1], list(map(str, action.choices)))
        return ""


def make_parser(name: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """A parser of `medseg NAME`; line breaks of its epilog stay."""
    return Parser(
        prog=f"medseg {name}",
        description=textwrap.fill(description, 100),
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def positive(text: str) -> int:
    """A whole number of at least 1, for `argparse`."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} must be at least 1")
    return number


def output_folder(text: str) -> Path:
    """The name of a folder for results, for `argparse`; that of a file would become a folder."""
    folder = Path(text)
    if folder.suffix.lower() in _FILE_SUFFIXES and not folder.is_dir():
        stem = text.removesuffix(folder.suffix).removesuffix(".nii")
        raise argparse.ArgumentTypeError(f"{text} is named like a file; name a folder: -o {stem}")
    return folder


def patch_of(
    given: Sequence[int] | None, known: Sequence[int], *, key: str = "patch-size"
) -> tuple[int, ...]:
    """The patch size of an option, `--patch-size`, else the one that is known.

    Raises:
        ConfigError: another number of axes than the network has.
    """
    if given is not None and len(given) != len(known):
        raise ConfigError(
            f"--{key}={' '.join(map(str, given))} must hold {len(known)} numbers of voxels, "
            "one per dimension of the network"
        )
    return tuple(given or known)


def add_overrides(parser: argparse._ActionsContainer, about: str) -> None:
    """Adds any number of overrides of the configuration."""
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help=about)


def add_output(
    parser: argparse._ActionsContainer, receives: str | None = None, *, required: bool = False
) -> None:
    """Adds the option `-o FOLDER`."""
    parser.add_argument(
        "-o", "--output", type=output_folder, required=required, metavar="FOLDER", help=receives
    )


def add_overwrite(
    parser: argparse._ActionsContainer, what: str = "files that medseg did not write as well"
) -> None:
    """Adds the option `--overwrite` of a command whose outputs `medseg.files.replacing` guards."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what}")


def memory_bytes(text: str) -> int:
    """An amount of memory, such as `8GB` or `1.5GiB`, in bytes, for `argparse`."""
    found = re.fullmatch(r"([0-9]*\.?[0-9]+) ?([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    bytes_ = 0
    if found:
        number, prefix, binary = found.groups()
        base = 1024 if binary else 1000
        bytes_ = int(float(number) * base ** " KMGT".index(prefix.upper() or " "))
    if bytes_ < 1:
        raise argparse.ArgumentTypeError(f"{text} must be an amount above 0, such as 8GB or 500MiB")
    return bytes_


def overlap_of(text: str) -> float | None:
    """A share, or None for `auto`, for `argparse`."""
    return None if text == "auto" else float(text)


def add_prediction(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a command that predicts, whatever it makes of the result."""
    parser.add_argument("-d", "--device", default="auto", help="auto, cpu, cuda, cuda:N")
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="auto: bf16 where the device computes in it and the model's card tells that it was "
        "found equal on validation cases, else fp32",
    )
    parser.add_argument(
        "--overlap",
        type=overlap_of,
        default=0.5,
        metavar="SHARE",
        help="of neighbouring windows, in [0, 1); auto: 0.25 where the model's card tells that it "
        "was found equal, else 0.5 (default 0.5)",
    )
    parser.add_argument(
        "--max-memory",
        type=memory_bytes,
        default=0,
        metavar="SIZE",
        help="of the whole process, such as 8GB: fewer windows at once, or sums in a temporary "
        "file ($TMPDIR); refused where not even that fits",
    )
    parser.add_argument(
        "--prefer",
        choices=("sform", "qform"),
        default="sform",
        help="which orientation to believe where a NIfTI header holds two that differ",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Adds what computes the network (`medseg.inference.engine`)."""
    parser.add_argument(
        "--engine",
        choices=("torch", "openvino"),
        default="torch",
        help="openvino takes less time for a window on a CPU, in fp32, and seconds to begin; pip "
        "install 'medseg[openvino]' (default torch)",
    )


def limit_memory_to(arguments: argparse.Namespace) -> None:
    """Puts `--max-memory` into force; how each volume is predicted in it is then said.

    Raises:
        ResourceError: the program itself takes more.
    """
    if arguments.max_memory:
        from medseg.inference import segment
        from medseg.resources import limit_memory

        limit_memory(arguments.max_memory)
        segment.log.setLevel(logging.INFO)


def print_table(found: "Table", console: "Console", titles: Sequence[str] | None = None) -> None:
    """Prints texts without their notes, in columns that fit the terminal; numbers stay whole.

    Args:
        found: The table.
        console: Where it goes.
        titles: Of the columns that are printed; None: all.
    """
    from rich import table
    from rich.text import Text

    places = [list(found.frame.columns).index(title) for title in titles or found.frame.columns]
    shown = table.Table(box=None, pad_edge=False, header_style="bold")
    for place in places:
        shown.add_column(
            Text(found.frame.columns[place].replace(" ", "\n")),
            justify="right" if found.numeric[place] else "left",
            overflow="fold",
            no_wrap=found.numeric[place],
        )
    for row in found.rows:
        texts = (encodable(one_line(row[place].text), console.file) for place in places)
        shown.add_row(*map(Text, texts))
    console.print(shown)


class _Record(logging.LogRecord):
    """A line of a log, whose names from elsewhere cannot end it or command a terminal."""

    def getMessage(self) -> str:  # noqa: N802
        """The message, its arguments on one line each."""
        if isinstance(self.args, tuple):
            kinds = (str, Path, BaseException)
            self.args = tuple(one_line(str(a)) if isinstance(a, kinds) else a for a in self.args)
        return super().getMessage()


def _raise_signal(signum: int, _frame: FrameType | None) -> None:
    raise SignalError(signum)
