"""How large medseg is: `python benchmarks/house.py [CHECKOUT]`, or `make house`.

Prints one Markdown table of a checkout (default: this one). It needs what medseg needs and nothing
of the checkout's tools, so that an older commit is measured by the same rules.
"""

import argparse
import ast
import dataclasses
import itertools
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

LONG = 400
"""Lines above which a file is long."""

SHARED = 6
"""Consecutive lines of code that make two places a pair."""

NEWCOMER = (
    ("cli/train.py",),
    ("experiment/run.py", "experiment/carry_out.py", "runs/run.py"),
    ("models/description.py",),
    ("models/unet.py",),
    ("blocks/conv.py", "blocks/conv/standard.py"),
    ("training/module.py",),
)
"""What a newcomer reads from a command to a training step; the first name that exists counts."""

DICE = 0.87312
CELL = "0.873"
RECORD = {
    "schema": 2,
    "name": "house",
    "status": "completed",
    "started": "2026-01-01T00:00:00+00:00",
    "finished": "2026-01-01T00:01:00+00:00",
    "dataset": "mni152",
    "classes": ["grey"],
    "split": {"train": ["a"], "validation": ["b"]},
    "cases": [{"case": "b", "metrics": {"grey": {"dice": DICE}}}],
    "upsampling": [],
    "pictures": [],
}
"""A record of one run, one case and one class: every mean over it is the number itself."""


def measure(root: Path, *, collect: bool) -> dict[str, str]:
    """Measures a checkout.

    Args:
        root: Its folder.
        collect: Whether pytest counts the tests, which takes a minute.

    Returns:
        Measure → value, in the order of the table.
    """
    package = root / "medseg"
    sources = sorted(package.rglob("*.py"))
    lines = {path: count_lines(path) for path in sources}
    names = Counter(path.name for path in sources if path.name != "__init__.py")
    tests = sorted((root / "tests").rglob("*.py"))
    stops = trace_in_process(root)
    reading = [found for choices in NEWCOMER if (found := first_file(package, choices))]
    return {
        "lines in medseg/": f"{sum(lines.values()):,}",
        "files / packages / dataclasses": f"{len(sources)} / "
        f"{sum(path.name == '__init__.py' for path in sources)} / "
        f"{sum(count_dataclasses(path) for path in sources)}",
        f"files of more than {LONG} lines": str(sum(n > LONG for n in lines.values())),
        "file names used twice / more often": f"{sum(n == 2 for n in names.values())} / "
        f"{sum(n > 2 for n in names.values())}",
        "record.json → table cell: functions / files / dataclasses": " / ".join(
            str(len(stops[kind])) for kind in ("functions", "files", "dataclasses")
        ),
        f"pairs of places that share {SHARED} lines": str(count_shared(sources)),
        "lines of tests": f"{sum(map(count_lines, tests)):,}",
        "tests": collected_tests(root)
        if collect
        else f"{sum(map(count_tests, tests)):,} functions",
        "lines that a newcomer reads": f"{sum(lines[path] for path in reading):,} ("
        + ", ".join(str(path.relative_to(package)) for path in reading)
        + ")",
    }


def count_lines(path: Path) -> int:
    """Lines of a file, blank ones and comments included."""
    return len(path.read_text(encoding="utf-8").splitlines())


def count_dataclasses(path: Path) -> int:
    """Classes with the decorator `dataclass`."""
    classes = (node for node in nodes_of(path) if isinstance(node, ast.ClassDef))
    return sum(any("dataclass" in ast.unparse(d) for d in c.decorator_list) for c in classes)


def count_shared(paths: Iterable[Path]) -> int:
    """Pairs of files that have a run of `SHARED` equal lines, a file with itself included.

    Blank lines, comments, imports and lone brackets do not count.
    """
    places: dict[tuple[str, ...], set[tuple[Path, int]]] = {}
    for path in paths:
        stripped = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
        lines = [
            line
            for line in stripped
            if any(letter.isalnum() for letter in line)
            and not line.startswith(("#", "import ", "from "))
        ]
        for start in range(len(lines) - SHARED + 1):
            places.setdefault(tuple(lines[start : start + SHARED]), set()).add((path, start))
    pairs: set[tuple[Path, Path]] = set()
    for found in places.values():
        pairs |= {(a[0], b[0]) for a, b in itertools.combinations(sorted(found), 2)}
    return len(pairs)


def count_tests(path: Path) -> int:
    """Functions that pytest runs, each once whatever its parameters."""
    functions = (node for node in nodes_of(path) if isinstance(node, ast.FunctionDef))
    return sum(function.name.startswith("test") for function in functions)


def nodes_of(path: Path) -> Iterable[ast.AST]:
    """All nodes of a file's syntax tree."""
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def first_file(package: Path, choices: Iterable[str]) -> Path | None:
    """The first of some files that exists."""
    return next((path for name in choices if (path := package / name).is_file()), None)


def collected_tests(root: Path) -> str:
    """What pytest collects, parameters counted."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()[-1].split(" in ")[0]


def trace_in_process(root: Path) -> dict[str, list[str]]:
    """`follow` in a process of its own, which imports the checkout's medseg."""
    command = [sys.executable, __file__, str(root), "--trace"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def follow(root: Path) -> dict[str, list[str]]:
    """Follows a Dice value from `record.json` to the text of its cell.

    A report of one record is written under a profiler. A function is on the way if what it returns
    holds the number or a text of it; the way ends where that text is a cell of a table.

    Returns:
        The functions, files and dataclasses of medseg on the way, each in their order.
    """
    sys.path.insert(0, str(root))
    from medseg.report import write_report

    package = str(root / "medseg")
    functions: dict[str, None] = {}
    files: dict[str, None] = {}
    dataclasses_met: dict[str, None] = {}

    def note(frame: FrameType, event: str, result: Any) -> None:
        code = frame.f_code
        if event != "return" or not code.co_filename.startswith(package):
            return
        made = frame.f_locals.get("self") if code.co_name == "__init__" else result
        met: dict[str, None] = {}
        if not holds(made, met):
            return
        file = code.co_filename.removeprefix(package + "/")
        functions[f"{file}:{code.co_qualname.split('.<locals>')[0]}"] = None
        files[file] = None
        dataclasses_met.update(met)
        if tabulated(result):
            sys.setprofile(None)

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "runs/house"
        run.mkdir(parents=True)
        (run / "record.json").write_text(json.dumps(RECORD), encoding="utf-8")
        sys.setprofile(note)
        write_report([run.parent], Path(folder) / "report.html")
        sys.setprofile(None)
    return {"functions": [*functions], "files": [*files], "dataclasses": [*dataclasses_met]}


def tabulated(value: Any, depth: int = 6) -> bool:
    """Whether a value is a table, as data or as HTML, with the number's text in a cell."""
    if isinstance(value, str):
        return "<td" in value and CELL in value
    items = items_of(value) if depth else []
    if any(isinstance(item, str) and len(item) < 40 and CELL in item for item in items):
        return True
    return any(tabulated(item, depth - 1) for item in items)


def holds(value: Any, met: dict[str, None], depth: int = 12) -> bool:
    """Whether a value is, or holds at some depth, the number or its text.

    Args:
        value: Any.
        met: Gets the names of the dataclasses through which the number was found.
        depth: How deep it is looked for.
    """
    if isinstance(value, str):
        return CELL in value
    if isinstance(value, float):
        return abs(value - DICE) < 1e-9
    if depth == 0 or isinstance(value, type):
        return False
    is_dataclass = dataclasses.is_dataclass(value)
    found = [holds(item, met, depth - 1) for item in items_of(value)]  # each, to meet all classes
    if is_dataclass and any(found):
        met[type(value).__name__] = None
    return any(found)


def items_of(value: Any) -> list[Any]:
    """What a container holds; nothing of anything else."""
    if hasattr(value, "to_numpy"):
        return value.to_numpy().tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    if isinstance(value, dict):
        return [*value.values()]
    return [*value] if isinstance(value, list | tuple | set) else []


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Measure how large medseg is.")
    parser.add_argument(
        "root", nargs="?", type=Path, default=Path(__file__).parents[1], help="a checkout"
    )
    parser.add_argument("--collect", action="store_true", help="let pytest count the tests")
    parser.add_argument("--walk", action="store_true", help="list the functions on the way")
    parser.add_argument("--trace", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    if arguments.trace:
        print(json.dumps(follow(root)))
        return
    if arguments.walk:
        print("\n".join(trace_in_process(root)["functions"]))
        return
    print("| measure | value |\n| --- | --- |")
    for name, value in measure(root, collect=arguments.collect).items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
