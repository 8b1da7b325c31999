"""What makes two runs the same experiment: the configuration without places and conveniences."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

# Where a run lies, how it was launched and what is drawn of it do not change its numbers.
_LAUNCH_CONFIG = (
    "ablation",
    "artifacts",
    "hydra",
    "name",
    "paths",
    "pictures",
    "resume",
    "runs",
    "sweep",
)
_LAUNCH_LEAVES = ("cache", "download", "num_workers", "root")
_DIGITS = 12


def content(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted path → value of everything in a resolved configuration that changes its numbers."""
    return {
        path: value
        for path, value in _leaves(config)
        if (parts := path.split("."))[0] not in _LAUNCH_CONFIG and parts[-1] not in _LAUNCH_LEAVES
    }


def digest(config: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of SHA-256 of a configuration's content: equal runs, equal digits.

    >>> digest({"seed": 0, "runs": "here"}) == digest({"runs": "there", "seed": 0})
    True
    >>> digest({"seed": 0}) == digest({"seed": 1})
    False
    """
    text = json.dumps(content(config), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, tree
