"""The house: who may import whom, how long a file may be, what a wheel must hold."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "medseg"
RANKS = [
    {"errors"},
    {"files", "build", "allocator", "machine", "statistics"},
    {"record", "layers"},
    {"arithmetic", "algebra"},
    {"blocks", "volumes", "metrics"},
    {"models", "data"},
    {"training", "inference", "audit"},
    {"artifacts"},
    {"runs", "report", "bench", "explain"},
    {"budget"},
    {"ablation"},
    {"cli"},
]
SOURCES = sorted(PACKAGE.rglob("*.py"))
EVERY_FILE = [
    *SOURCES,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "scripts").glob("*.py")),
]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def rank_of(room: str) -> int:
    return next(rank for rank, rooms in enumerate(RANKS) if room in rooms)


def imported_modules(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def imported_rooms(path: Path) -> set[str]:
    parts = [name.split(".") for name in imported_modules(path)]
    rooms = {p[1] for p in parts if p[0] == "medseg" and len(p) > 1}
    return rooms - {"__version__", "configs"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_above_it(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        assert not imported_rooms(path)
        return
    room = room_of(path)
    for other in imported_rooms(path) - {room}:
        assert rank_of(other) < rank_of(room), f"{room} must not import {other}"


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_is_longer_than_300_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_modules_import_each_other_in_no_circle() -> None:
    modules = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in SOURCES
    }
    needs = {
        name: set(modules) & _with_parents(imported_modules(path)) - {name}
        for name, path in modules.items()
    }
    # a package's own file is imported along with each of its modules; only what it names counts
    done: set[str] = set()
    while ready := {n for n in needs if n not in done and needs[n] - {_parent(n)} <= done}:
        done |= ready
    assert not set(needs) - done


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _with_parents(names: list[str]) -> set[str]:
    return set(names) | {_parent(name) for name in names}


def test_only_the_door_and_the_builder_speak_hydra() -> None:
    speakers = {
        path.relative_to(PACKAGE).parts[0]
        for path in SOURCES
        if any(n.startswith(("hydra", "omegaconf")) for n in imported_modules(path))
    }
    assert speakers <= {"build.py", "cli"}


def test_the_report_knows_no_room_that_needs_a_network() -> None:
    light = {"report", "record", "statistics", "volumes", "errors", "files"}
    for path in (PACKAGE / "report").rglob("*.py"):
        assert imported_rooms(path) <= light


def test_blocks_and_layers_import_torch_and_nothing_else() -> None:
    for room in ("blocks", "layers"):
        for path in (PACKAGE / room).rglob("*.py"):
            roots = {name.split(".")[0] for name in imported_modules(path)}
            assert roots - sys.stdlib_module_names <= {"torch", "medseg"}
            assert imported_rooms(path) <= {"layers", room}


def test_every_package_is_listed_for_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {
        ".".join(p.parent.relative_to(ROOT).parts) for p in PACKAGE.rglob("__init__.py")
    } | {"medseg.configs"}
    assert packages == set(listed["tool"]["setuptools"]["packages"])


def test_every_dependency_floor_has_its_constraint() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    wanted = [*listed["dependencies"], *listed["optional-dependencies"]["dev"]]
    names = {re.split(r">=|\[", requirement)[0].lower() for requirement in wanted}
    assert names <= pinned
