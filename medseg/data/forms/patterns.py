"""Files by patterns of the user's: data.files={image: '{case}.jpg', label: '{case}_mask.png'}.

`{name}` stands for a part of a path without `/`, the same in all patterns; `*` for anything
within a name, `**` for any folders. Cases are what the names differ in; `{patient}`, where there
is one, is the patient.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.data.dataset import Case, CaseFault, Dataset
from medseg.data.forms.contents import dataset_of
from medseg.data.forms.matching import Findings
from medseg.data.forms.names import images_below
from medseg.errors import ConfigError
from medseg.formatting import first_of

_PARTS = re.compile(r"\{(\w+)\}|(\*\*/?)|(\*)")


def read_patterns(
    folder: Path, files: Mapping[str, Any], label_values: Mapping[Any, Any] | None
) -> Dataset:
    """Reads the dataset of the files that match.

    Args:
        folder: Where paths begin.
        files: `image`, a pattern, a list of them or a mapping from the names of channels, and
            `label`, a pattern of files, or of folders of masks.
        label_values: See `Form.read`.

    Raises:
        ConfigError: no such patterns.
    """
    images = files.get("image")
    if isinstance(images, str):
        images = {"": images}
    elif not isinstance(images, Mapping):
        images = {f"image {n}": pattern for n, pattern in enumerate(images or ())}
    label = files.get("label")
    if not images or not isinstance(label, str) or not all(map(_is_pattern, images.values())):
        raise ConfigError(
            f"data.files={dict(files)} must be {{image: PATTERN, label: PATTERN}}, as "
            "{image: '{case}/t1.nii.gz', label: '{case}/seg.nii.gz'}, or a list of images"
        )
    present = images_below(folder)
    present += sorted({parent for path in present for parent in path.parents if parent.name})
    found = Findings(channels=tuple(images))
    by_pattern = {channel: _matching(p, present, found) for channel, p in images.items()}
    labels = _matching(label, present, found)
    keys = dict.fromkeys(key for named in by_pattern.values() for key in named)
    for key in keys:
        name = _case_id(key)
        if key not in labels:
            found.notes.append(f"{name}: has no file like {label} and is left out")
            continue
        lacking = [images[channel] for channel, named in by_pattern.items() if key not in named]
        found.faults.extend(
            CaseFault(f"{name}: has no file like {pattern}", name) for pattern in lacking
        )
        paths = tuple(folder / named[key] for named in by_pattern.values() if key in named)
        patient = dict(key).get("patient")
        found.cases.append(
            Case(case_id=name, images=paths, label=folder / labels[key], patient=patient)
        )
    if lonely := [str(path) for key, path in labels.items() if key not in keys]:
        found.notes.append(f"labels without an image: {first_of(lonely)}")
    if not found.cases:
        found.faults.append(
            f"data.files={dict(files)}: no image has its label by these patterns; files are, for "
            f"example, {first_of([str(path) for path in present], 3)}"
        )
    return dataset_of(folder, "files by patterns", found, label_values)


def _is_pattern(pattern: Any) -> bool:
    return isinstance(pattern, str) and _PARTS.search(pattern) is not None


def _matching(pattern: str, paths: list[Path], found: Findings) -> dict[tuple, Path]:
    """Path by what the names in braces stand for."""
    regex = re.compile(_regex(pattern))
    matched: dict[tuple, Path] = {}
    for path in paths:
        if hit := regex.fullmatch(path.as_posix()):
            key = tuple(sorted(hit.groupdict().items()))
            if key in matched:
                text = f"{matched[key]} and {path}: both match {pattern}; make it tell them apart"
                found.faults.append(CaseFault(text, _case_id(key)))
            matched.setdefault(key, path)
    return matched


def _regex(pattern: str) -> str:
    pieces, start, known = [], 0, set()
    for part in _PARTS.finditer(pattern):
        pieces.append(re.escape(pattern[start : part.start()]))
        name, folders, _ = part.groups()
        if name in known:
            pieces.append(f"(?P={name})")
        elif name:
            pieces.append(f"(?P<{name}>[^/]+?)")
            known.add(name)
        else:
            pieces.append("(?:.*/)?" if folders else "[^/]*")
        start = part.end()
    return "".join([*pieces, re.escape(pattern[start:])])


def _case_id(key: tuple) -> str:
    parts = dict(key)
    return parts["case"] if "case" in parts and len(parts) == 1 else "_".join(parts.values())
