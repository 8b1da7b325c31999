"""A trained network on disk: weights as safetensors beside a card of plain data.

Nothing that is read here can run code: weights are tensors, the card is JSON, and the network is
built from names (`medseg.models.description`).
"""

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medseg import __version__
from medseg.errors import DataError
from medseg.files import atomic_path, sha256, write_text
from medseg.labelling import Labelling
from medseg.models import pretrained
from medseg.models.description import build_network
from medseg.models.evidence import Evidence
from medseg.models.size_limit import TooLargeError, at_most
from medseg.record import ImageRange, from_plain
from medseg.suggestion import choices

MODEL_FOLDER = "model"
_CARD = "model.json"
_WEIGHTS = "weights.safetensors"
MODEL_FILES = (_WEIGHTS, _CARD)
_PLACES = (
    Path(MODEL_FOLDER, _WEIGHTS),
    Path(_WEIGHTS),
    Path("checkpoints", "best.ckpt"),
    Path("checkpoints", "last.ckpt"),
)
_SHOWN = 5  # models that a message names
_SPARE = 4  # times what a file holds: some tensors are made to be replaced, or not stored
_PREFIX = "network."  # how a checkpoint of the training module names the network's weights


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What one must know to use a network's weights.

    Args:
        network: Description from which the network is built.
        preprocessing: Description from which the preprocessing is built.
        dataset: Name of the dataset it was trained on.
        in_channels: Channels of an image.
        classes: Names of the foreground classes, by label value from 1; or of the regions.
        regions: The label values of each region; empty where classes exclude each other.
        regions_class_order: The label value that is written for each region.
        patch_size: Window of prediction in voxels.
        channels: Names of the channels, in their order; empty where they are not known.
        mirrored: Ways of the body along which training mirrored patches; None: not known, as of
            cards of medseg 0.1.0.
        side_pairs: Label values that were swapped where left and right were mirrored.
        trained_on: What the images of its training are like; None: not known.
        largest_component: Class → on the validation cases its mean `dice`, that of its largest
            component alone (`kept`), and over how many `cases`; empty where not measured.
        weights: Which of the training they are, as `weights` of a record; empty where that is not
            known.
        evidence: What quicker ways of prediction were found to change on validation cases.
        medseg: Version that wrote it.
    """

    network: dict[str, Any]
    preprocessing: dict[str, Any]
    dataset: str
    in_channels: int
    classes: list[str]
    patch_size: list[int]
    regions: list[list[int]] = dataclasses.field(default_factory=list)
    regions_class_order: list[int] = dataclasses.field(default_factory=list)
    channels: list[str] = dataclasses.field(default_factory=list)
    mirrored: list[str] | None = None
    side_pairs: list[list[int]] = dataclasses.field(default_factory=list)
    trained_on: ImageRange | None = None
    largest_component: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    weights: dict[str, Any] = dataclasses.field(default_factory=dict)
    evidence: list[Evidence] = dataclasses.field(default_factory=list)
    medseg: str = __version__

    def plain(self) -> dict[str, Any]:
        """As a plain dict."""
        return dataclasses.asdict(self)

    @property
    def labelling(self) -> Labelling:
        """What outputs and label values mean."""
        return Labelling.of_plain(self.classes, self.regions, self.regions_class_order)


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A network with its weights, and its card.

    Args:
        network: In evaluation mode.
        card: Its card.
        source: The file its weights came from.
        sha256: Of that file.
    """

    network: nn.Module
    card: ModelCard
    source: Path
    sha256: str


def save_model(folder: Path, network: nn.Module, card: ModelCard) -> None:
    """Writes `weights.safetensors` and `model.json` into `folder`, both or none."""
    # clones: some networks of MONAI list a tensor under two names, which safetensors refuses
    state = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
    with atomic_path(folder / _WEIGHTS) as weights, atomic_path(folder / _CARD) as text:
        save_file(state, weights)
        text.write_text(_card_text(card, sha256(weights)), encoding="utf-8")


def write_card(folder: Path, card: ModelCard, weights_sha256: str) -> None:
    """Writes `model.json` alone, for weights that are there or come there."""
    write_text(folder / _CARD, _card_text(card, weights_sha256))


def _card_text(card: ModelCard, weights_sha256: str) -> str:
    content = card.plain() | {"weights_sha256": weights_sha256}
    content["card_sha256"] = _digest(content)
    return json.dumps(content, indent=1) + "\n"


def load_model(path: Path) -> TrainedModel:
    """Reads a trained network.

    Args:
        path: A run's folder, or one above that of the only run; a model's folder, its
            `.safetensors`, or a `.ckpt` of a run; where nothing is there, the name of a network
            that comes with medseg.

    Raises:
        DataError: there is no model, it is damaged, or it would run code.
        ConfigError: its description names what this version cannot build.
    """
    source = _locate(Path(path))
    if source.suffix == ".ckpt":
        content = read_checkpoint(source)
        state, card = network_state(content), _card(content.get("description"), source)
    else:
        state, card = _read_weights(source), _read_card(source)
    most = _SPARE * sum(tensor.numel() for tensor in state.values())
    try:
        with at_most(most, _SPARE * len(state)):
            network = build_network(card.network)
        network.load_state_dict(state)
    except (TooLargeError, RuntimeError) as error:
        raise DataError(
            f"{source}: its weights do not fit the network of its card; use the files of one run"
        ) from error
    return TrainedModel(network=network.eval(), card=card, source=source, sha256=sha256(source))


def weights_sha256(path: Path) -> str:
    """SHA-256 of the file of a trained network's weights.

    Args:
        path: As of `load_model`.

    Raises:
        DataError: there is no model.
    """
    return sha256(_locate(Path(path)))


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Reads a checkpoint of this package: tensors and plain data, never code.

    Raises:
        DataError: there is none, it is damaged, or it would run code.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such checkpoint; name a run's folder or a .ckpt file")
    try:
        _require_checksums(path)  # torch does not look at them
        content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises whatever the unpickler meets
        raise DataError(
            f"{path}: not a checkpoint of tensors and plain data ({type(error).__name__}); "
            "it is damaged or carries a pickle that would run code; use one written by medseg"
        ) from error
    if not isinstance(content, Mapping) or not isinstance(content.get("state_dict"), Mapping):
        raise DataError(f"{path}: holds no weights; use a checkpoint written by medseg")
    return dict(content)


def _require_checksums(path: Path) -> None:
    """Raises ValueError unless a file is a zip whose every member has its checksum."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"wrong checksum of {damaged}")


def network_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's weights in a checkpoint, without what else the training module holds."""
    return {
        key.removeprefix(_PREFIX): value
        for key, value in checkpoint["state_dict"].items()
        if key.startswith(_PREFIX)
    }


def _locate(path: Path) -> Path:
    if not path.exists() and (folder := pretrained.folder_of(str(path))):
        return folder / _WEIGHTS
    if path.is_file():
        if path.suffix in (".ckpt", ".safetensors"):
            return path
        raise DataError(f"{path}: not a model; name a run's folder, a .safetensors or a .ckpt file")
    if found := _model_in(path):
        return found
    below = sorted(p for depth in ("*", "*/*") for p in path.glob(depth) if p.name != MODEL_FOLDER)
    runs = {run: model for run in below if (model := _model_in(run))}
    if len(runs) == 1:
        return next(iter(runs.values()))
    if runs:
        names = ", ".join(map(str, list(runs)[:_SHOWN])) + (", …" if len(runs) > _SHOWN else "")
        raise DataError(f"{path}: holds {len(runs)} models; name one of them: {names}")
    if not path.exists():
        raise DataError(
            f"{path}: there is no such folder; name that of a run that has trained, or a model "
            f"that comes with medseg: {choices(str(path), pretrained.names())}"
        )
    hides = f"; the model {path} of medseg has its name" if pretrained.folder_of(str(path)) else ""
    raise DataError(
        f"{path}: holds no model ({', '.join(map(str, _PLACES))} were looked for); "
        f"name the folder of a run that has trained{hides}"
    )


def _model_in(folder: Path) -> Path | None:
    return next((folder / place for place in _PLACES if (folder / place).is_file()), None)


def _read_weights(source: Path) -> dict[str, Tensor]:
    try:
        return load_file(source)
    except Exception as error:  # the reader has its own exception class, not exported
        raise DataError(f"{source}: damaged ({error}); train again or use another") from error


def _read_card(source: Path) -> ModelCard:
    path = source.with_name(_CARD)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: the model's card cannot be read ({error})") from error
    content = content if isinstance(content, dict) else {}
    own = content.pop("card_sha256", None)  # cards of medseg 0.1.0 have none
    if own is not None and own != _digest(content):
        raise DataError(f"{path}: damaged or changed since it was written; copy it again")
    if content.pop("weights_sha256", None) != sha256(source):
        raise DataError(f"{source}: not the weights its card was written for; copy both again")
    return _card(content, path)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _card(content: Any, source: Path) -> ModelCard:
    """A card whose every field has its type, whatever the file says."""
    try:
        card = from_plain(ModelCard, content)
        _ = card.labelling  # refuses regions that cannot be
        if card.in_channels < 1 or len(card.patch_size) not in (2, 3) or min(card.patch_size) < 1:
            raise ValueError(f"in_channels={card.in_channels}, patch_size={card.patch_size}")
    except (TypeError, ValueError) as error:
        raise DataError(f"{source}: not a model's card ({error}); use one of medseg") from error
    return card
