"""A plan as a commented YAML that Hydra composes, and back."""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from medseg.data.dataset import Dataset
from medseg.errors import ConfigError
from medseg.formatting import one_line, printable
from medseg.record import leaves

SECTIONS = ("data", "model", "augmentation", "loss", "optimizer", "scheduler", "trainer")
"""Sections of the configuration that a plan may set."""
PLANNED = "planned"
"""What a plan was made from, and in a configuration also its hash and text."""
# where is written and what is fetched, only a user says
_NOT_BY_PLAN = ("cache", "download", "source._target_", "source.root")
_MADE = ("mni152", "phantom")  # datasets that medseg writes below data.root
_NAMES = ("channels", "classes")
_OVERRIDE = "override /"


def text_of(
    tree: Mapping[str, Any],
    options: Mapping[str, str],
    comments: Mapping[str, str],
    heading: Collection[str],
) -> str:
    """A plan as YAML.

    Args:
        tree: Sections and their values.
        options: Group (and place) → option.
        comments: Dotted key → what is said of its value.
        heading: Lines of comment at the top.
    """
    lines = [f"# {one_line(line)}".rstrip() for line in heading]
    lines += ["defaults:", *(f"  - {_OVERRIDE}{key}: {value}" for key, value in options.items())]
    lines += _lines(tree, comments, "")
    return "\n".join(lines) + "\n"


def _lines(tree: Mapping[str, Any], comments: Mapping[str, str], path: str) -> Iterator[str]:
    indent = "  " * path.count(".")
    for key, value in tree.items():
        own = f"{path}{key}"
        said = f"  # {one_line(comments[own])}" if own in comments else ""
        if isinstance(value, Mapping) and value:
            yield f"{indent}{_key(key)}:{said}"
            yield from _lines(value, comments, f"{own}.")
        else:
            yield f"{indent}{_key(key)}: {_quoted(value)}{said}"


def _key(key: Any) -> str:
    """A key that is read as it is: a colour's # would begin a comment, a text 4 be a number."""
    is_plain = re.fullmatch(r"\w+", str(key)) and yaml.safe_load(str(key)) == key
    return str(key) if is_plain else _quoted(key)


def _quoted(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False))


def planned_from(dataset: Dataset) -> dict[str, Any]:
    """What a plan says of the dataset that it was made from."""
    return {
        "dataset": dataset.name,
        "form": dataset.form,
        "channels": list(dataset.modalities),
        "classes": list(dataset.classes),
        "cases": len(dataset.cases),
        "case_ids_sha256": _ids_sha256(dataset),
    }


def _ids_sha256(dataset: Dataset) -> str:
    ids = sorted(case.case_id for case in dataset.cases)
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


def differences(planned: Mapping[str, Any], dataset: Dataset) -> str | None:
    """Checks that a plan fits a dataset; returns in words which cases it was not made from.

    Raises:
        ConfigError: it was made for other channels or classes.
    """
    for key, own in zip(_NAMES, (dataset.modalities, dataset.classes), strict=True):
        meant = planned.get(key)
        if meant is not None and list(meant) != list(own):
            raise ConfigError(
                f"{_named(planned)} was made for {key} {', '.join(map(str, meant))}, "
                f"{dataset.folder} has {', '.join(own)}; make one with medseg plan "
                f"{dataset.folder}, or take {key} out of its section {PLANNED} if it is meant"
            )
    if planned.get("case_ids_sha256") in (None, _ids_sha256(dataset)):
        return None
    return (
        f"{_named(planned)} was made from other cases ({planned.get('cases')} of "
        f"{planned.get('dataset')}) than the {len(dataset.cases)} of {dataset.folder}; "
        f"medseg plan {dataset.folder} makes one from these"
    )


def _named(planned: Mapping[str, Any]) -> str:
    return f"plan={planned.get('file') or planned.get('dataset')}"


def read_plan(path: Path) -> str:
    """The text of a plan.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(
            f"plan={path} cannot be read ({reason}); medseg plan DATASET writes one"
        ) from error


def content_of(text: str, groups: Collection[str], *, name: str) -> dict[str, Any]:
    """A plan's content for Hydra; it describes runs alone.

    Args:
        text: Of the file.
        groups: Groups of the configuration of which an option may be chosen.
        name: Of the file, for messages.

    Raises:
        ConfigError: it is no plan, or sets what only a user may.
    """
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"plan={name}: is no YAML ({reason}); correct it") from error
    known = ("defaults", *SECTIONS, PLANNED)
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"plan={name}: holds no sections; they are {', '.join(known)}")
    problems = [f"{key} is no section of a plan" for key in content if key not in known]
    problems += [
        f"{key} holds no names and values"
        for key in content
        if key != "defaults" and key in known and not isinstance(content[key], dict)
    ]
    if "${" in text:
        problems.append("${…} has no place in a plan; write the value")
    set_by_plan = dict(leaves(content))
    chosen = content.setdefault("defaults", [])
    is_made = isinstance(chosen, list) and any({f"{_OVERRIDE}data": n} in chosen for n in _MADE)
    problems += [
        f"data.{key} is set on the command line"
        for key in (*_NOT_BY_PLAN, *(["root"] if is_made else []))
        if f"data.{key}" in set_by_plan
    ]
    problems += [
        f"{PLANNED}.{key} must be a list of names"
        for key in _NAMES
        if not isinstance(set_by_plan.get(f"{PLANNED}.{key}", []), list)
    ]
    problems += [f"defaults: {entry} is no choice" for entry in _unknown(chosen, groups)]
    if problems:
        raise ConfigError(*(f"plan={name}: {problem}" for problem in problems))
    content["defaults"] = [*chosen, "_self_"]
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    about = content.get(PLANNED) or {}
    content[PLANNED] = about | {"file": name, "sha256": sha256, "text": text}
    return content


def _unknown(chosen: Any, groups: Collection[str]) -> Iterator[Any]:
    """What in a list of choices is none."""
    for entry in chosen if isinstance(chosen, list) else [chosen]:
        match entry:
            case dict() if len(entry) == 1:
                ((key, option),) = entry.items()
                group = str(key).removeprefix(_OVERRIDE).partition("@")[0]
                is_choice = str(key).startswith(_OVERRIDE) and group in groups
                if is_choice and isinstance(option, str) and re.fullmatch(r"[\w-]+", option):
                    continue
        yield entry
