"""Trained networks that predict together: runs, models, and folders that hold several."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medseg.errors import ConfigError, DataError
from medseg.formatting import first_of
from medseg.labelling import Labelling
from medseg.models.weights import TrainedModel, load_model

ENSEMBLE = "ensemble.json"
"""In a folder of models: `{"format": 1, "members": [names of the folders below it]}`."""
ENSEMBLE_FOLDER = "ensemble"
"""In the folder of a cross-validation: a folder of the networks of its folds."""

_FORMAT = 1


def members_text(names: Iterable[str]) -> str:
    """What stands in `ensemble.json` beside the folders of these names."""
    return json.dumps({"format": _FORMAT, "members": [*names]}, indent=1) + "\n"


def load_members(paths: Iterable[Path]) -> list[TrainedModel]:
    """Reads the networks of an ensemble.

    Args:
        paths: As of `load_model`, folders with `ensemble.json`, or those of cross-validations.

    Raises:
        DataError: one is no model, or is damaged.
        ConfigError: they have different classes or channels, or cannot be built.
    """
    models = [load_model(place) for path in paths for place in _places(Path(path))]
    for other in models[1:]:
        _require_alike(models[0], other)
    return models


def output_order(own: Labelling, wanted: Labelling) -> list[int]:
    """Where a network has the outputs of another, in their order."""
    if own.names == wanted.names:
        return list(range(own.outputs))
    return [own.output_names.index(name) for name in wanted.output_names]


def _places(path: Path) -> list[Path]:
    below = path / ENSEMBLE_FOLDER
    path = below if (below / ENSEMBLE).is_file() else path
    listing = path / ENSEMBLE
    if not listing.is_file():
        return [path]
    try:
        content: Any = json.loads(listing.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"format={content['format']!r:.60}")
        names = [str(name) for name in content["members"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{listing}: not a list of members ({error}); write it again") from error
    if not names or any(name in ("", ".", "..") or Path(name).name != name for name in names):
        raise DataError(
            f"{listing}: its members {first_of(names) or '(none)'} must be names of folders beside "
            "it; write it again"
        )
    return [path / name for name in names]


def _require_alike(first: TrainedModel, other: TrainedModel) -> None:
    """Refuses networks whose scores or inputs do not mean the same."""
    one, two = first.card, other.card
    if one.labelling != two.labelling and (one.regions or two.regions):
        raise ConfigError(
            f"{first.source} has the classes {one.labelling}, {other.source} {two.labelling}: only "
            "networks of the same regions, in the same order, predict together"
        )
    if sorted(one.classes) != sorted(two.classes) or (
        len({*one.classes}) < len(one.classes) and one.classes != two.classes
    ):
        raise ConfigError(
            f"{first.source} has the classes {first_of(one.classes)}, {other.source} "
            f"{first_of(two.classes)}: only networks of the same classes predict together"
        )
    named = bool(one.channels and two.channels)
    if one.in_channels != two.in_channels or (named and one.channels != two.channels):
        channels = [first_of(c.channels) or str(c.in_channels) for c in (one, two)]
        raise ConfigError(
            f"{first.source} takes the channels {channels[0]}, {other.source} {channels[1]}: only "
            "networks of the same channels predict together"
        )
