"""Imports that import-linter cannot state; the order of packages stands in pyproject.toml."""

import ast
import itertools
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "medseg"
SOURCES = sorted(PACKAGE.rglob("*.py"))


def imported_modules(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def imported_packages(path: Path) -> set[str]:
    parts = [name.split(".") for name in imported_modules(path)]
    packages = {p[1] for p in parts if p[0] == "medseg" and len(p) > 1}
    return packages - {"__version__", "configs"}


def test_only_the_cli_and_the_builder_import_hydra() -> None:
    importers = {
        path.relative_to(PACKAGE).parts[0]
        for path in SOURCES
        if any(n.startswith(("hydra", "omegaconf")) for n in imported_modules(path))
    }
    assert importers <= {"build.py", "cli"}


def test_blocks_and_layers_import_torch_and_nothing_else() -> None:
    for package in ("blocks", "layers"):
        for path in (PACKAGE / package).rglob("*.py"):
            roots = {name.split(".")[0] for name in imported_modules(path)}
            assert roots - sys.stdlib_module_names <= {"torch", "medseg"}
            assert imported_packages(path) <= {"layers", package}


def test_nilearn_is_located_and_never_imported() -> None:
    """Its import takes seconds, and of it only files are used."""
    assert not [p for p in SOURCES if any(n.startswith("nilearn") for n in imported_modules(p))]


def test_every_dependency_floor_has_its_constraint() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    wanted = itertools.chain(listed["dependencies"], *listed["optional-dependencies"].values())
    names = {re.split(r">=|\[", requirement)[0].lower() for requirement in wanted}
    assert names - {"medseg"} <= pinned
