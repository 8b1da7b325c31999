"""`init=RUN`: a new run that begins with the weights of a trained one."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medseg.data.config import DataConfig
from medseg.errors import ConfigError, DataError
from medseg.models.weights import load_model

log = logging.getLogger(__name__)

_SHOWN = 3


def start_from(config: dict[str, Any], network: nn.Module, data: DataConfig) -> dict[str, Any]:
    """Gives a network the weights of a trained one.

    What reads channels and what tells classes is made anew where their number differs; all else
    must be the same network.

    Args:
        config: Resolved; `init` names a run or a model, `init_sha256` its weights.
        network: Is changed in place.
        data: Of the new run.

    Returns:
        What the record says of it: `source`, `sha256`, and the names of `new` tensors.

    Raises:
        DataError: there is no such model, it is damaged, or it is not the one that was meant.
        ConfigError: it is another network.
    """
    source = Path(config["init"]).expanduser()
    trained = load_model(source)
    if config.get("init_sha256") not in (None, trained.sha256):
        raise DataError(
            f"init={source}: the weights have changed since the run was planned; "
            "restore them, or start another run"
        )
    card = trained.card
    numbers = {
        (card.in_channels, data.in_channels),
        (card.labelling.outputs, data.num_classes),
    }
    own, given = network.state_dict(), trained.network.state_dict()
    foreign = sorted(own.keys() ^ given.keys())
    new = []
    for name in own.keys() & given.keys():
        differing = _differing(given[name].shape, own[name].shape)
        if differing is None or not differing <= numbers:
            foreign.append(name)
        elif differing:
            new.append(name)
    if foreign or len(new) == len(own):
        shown = ", ".join(foreign[:_SHOWN]) + (" …" if len(foreign) > _SHOWN else "")
        raise ConfigError(
            f"init={source}: another network than the one to be trained ({shown}); "
            "give the model's overrides that it was trained with, as its config.yaml shows them"
        )
    with torch.no_grad():
        for name in own.keys() - set(new):
            own[name].copy_(given[name])
    if card.labelling.overlap != data.labelling.overlap and not new:
        of = "regions that overlap", "classes that exclude each other"
        log.warning(
            "%s was trained on %s, and this run is on %s: outputs are kept by their number",
            source, *(of if card.labelling.overlap else of[::-1]),
        )  # fmt: skip
    names = sorted(new)
    log.info("begins with the weights of %s", trained.source)
    if names:
        log.warning("made anew, for other channels or classes: %s", ", ".join(names))
    if card.preprocessing != data.preprocessing.describe():
        log.warning(
            "%s was trained with other preprocessing (%s) than this run has (%s)",
            source, card.preprocessing, data.preprocessing.describe(),
        )  # fmt: skip
    return {"source": str(trained.source.absolute()), "sha256": trained.sha256, "new": names}


def _differing(one: Sequence[int], other: Sequence[int]) -> set[tuple[int, int]] | None:
    """The pairs of sizes in which two shapes differ; None if their axes are not the same."""
    if len(one) != len(other):
        return None
    return {pair for pair in zip(one, other, strict=True) if pair[0] != pair[1]}
