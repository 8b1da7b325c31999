"""What makes two runs the same experiment: the configuration without places and conveniences.

The files of the dataset are the other half: each case is known by the content of its files.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# Where a run lies, how it was launched and what is drawn of it do not change its numbers.
_LAUNCH_CONFIG = (
    "ablation",
    "artifacts",
    "hydra",
    "name",
    "paths",
    "pictures",
    "planned",
    "resume",
    "runs",
    "sweep",
)
_LAUNCH_LEAVES = ("cache", "download", "logger", "num_workers", "root")
# Keys that did not exist at first, with the value that means what was before: with it, a run is
# known as it was then.
_ADDED: dict[str, Any] = {
    "augmentation.ramp": 0.0,
    "augmentation.side_pairs": None,
    "continued": [],
    "data.crop": None,
    "data.files": None,
    "data.form": None,
    "data.interpolation": "linear",
    "data.labels": None,
    "data.regions": None,
    "data.regions_class_order": None,
    "data.splits": "random",
    "init_sha256": None,
    "loss.label_smoothing": 0.0,
    "loss.weight": None,
    "model.decoder.kernel_sizes": None,
    "model.encoder.kernel_sizes": None,
    "trainer.class_prior": False,
    "trainer.devices": 1,
    "trainer.ema": None,
    "trainer.execution": "auto",
    "trainer.logger": "tensorboard",
    "trainer.nodes": 1,
    "trainer.weights": "best",
}
_FLIPS = "augmentation.flip_axes"
_DIGITS = 12


def content(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted path → value of everything in a resolved configuration that changes its numbers."""
    found = {
        path: value
        for path, value in leaves(config)
        if not is_place(path)
        and path != "init"  # its content counts, wherever it lies
        and not (path in _ADDED and value == _ADDED[path])
    }
    if found.get("data.spacing") is None:  # nothing is resampled
        found.pop("data.interpolation", None)
    if regions := [path for path in found if path.startswith("data.regions.")]:
        found["data.regions"] = regions  # their order is that of the outputs
    # named in the body today; in sagittal slices axis 0 was another
    if found.get(_FLIPS) == ["left-right"] and found.get("data.slice_axis") != 0:
        found[_FLIPS] = [0]
    return found


def added_keys(section: str) -> dict[str, Any]:
    """Keys that a section had not at first, with the values that mean what was before."""
    return {
        path.removeprefix(f"{section}."): value
        for path, value in _ADDED.items()
        if path.startswith(f"{section}.")
    }


def is_place(path: str) -> bool:
    """Whether a dotted path says where a run lies, how it is launched or what is drawn of it."""
    parts = path.split(".")
    return parts[0] in _LAUNCH_CONFIG or parts[-1] in _LAUNCH_LEAVES


def digest(config: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of SHA-256 of a configuration's content: equal runs, equal digits.

    >>> digest({"seed": 0, "runs": "here"}) == digest({"runs": "there", "seed": 0})
    True
    >>> digest({"seed": 0}) == digest({"seed": 1})
    False
    """
    text = json.dumps(content(config), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def data_digest(cases: Mapping[str, str], held_out: Iterable[str] = ()) -> str:
    """Twelve hexadecimal digits of a dataset's content; empty if it is not known.

    Args:
        cases: Case id → digest of its content.
        held_out: Cases that a file of the user's holds out; none where the configuration says it.
    """
    text = json.dumps([dict(cases), sorted(held_out)], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS] if cases else ""


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of all that is no mapping in a configuration, or an empty one."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, tree
