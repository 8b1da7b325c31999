"""A network as torch's graph of plain operators, and proof that what is made of it agrees."""

import copy
import io
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from medseg.errors import ConfigError
from medseg.files import atomic_path
from medseg.models.padding import Padded
from medseg.models.weights import ModelCard, TrainedModel

OVERLAP = 0.5
"""Of neighbouring windows, what `medseg predict` has unless it is told otherwise."""

PROGRAM = "model.pt2"

_LARGEST = 1 << 12  # multiples along an axis
_BATCH = Dim("batch", min=1, max=_LARGEST)
_OTHER_FORMAT = "choose another --format"
_LABELS, _LOGITS = 0.999, 1e-3  # least share of equal labels, largest difference of their spread


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The network's graph.

    Args:
        program: Image `(batch, channels, *S)` → logits `(batch, classes, *S)`.
        multiple: What the sizes S must be a multiple of.
        is_dynamic: Whether any multiple and any batch goes in, or one window of just that size.
    """

    program: ExportedProgram
    multiple: tuple[int, ...]
    is_dynamic: bool

    @property
    def sizes(self) -> str:
        """The sizes that go in, in words."""
        axes = "×".join(map(str, self.multiple))
        return f"any multiple of {axes} voxels, any batch" if self.is_dynamic else f"{axes} voxels"


def exported(model: TrainedModel) -> Exported:
    """The graph of a network: for all sizes where it has one, else for its window alone.

    Raises:
        ConfigError: an operator of the network has no graph.
    """
    multiple = _multiple(model.network, len(model.card.patch_size))
    try:
        if multiple is not None:
            with suppress(Exception):  # torch raises whatever its tracer meets
                return Exported(
                    program=_traced(model, multiple), multiple=multiple, is_dynamic=True
                )
        window = tuple(model.card.patch_size)
        return Exported(program=_traced(model, None), multiple=window, is_dynamic=False)
    except Exception as error:
        raise refused(model, "torch.export", error) from error


def _traced(model: TrainedModel, multiple: tuple[int, ...] | None) -> ExportedProgram:
    """The graph for all multiples and batches, or for one window."""
    # two cases of three cells a side: torch takes sizes of 0 and 1 for constants
    shape = [3 * step for step in multiple] if multiple else model.card.patch_size
    sizes = {0: _BATCH}
    for axis, step in enumerate(multiple or (), start=2):
        cells = Dim(f"cells{axis - 2}", min=1, max=_LARGEST)
        sizes[axis] = cells if step == 1 else step * cells
    return _graph(model, (2 if multiple else 1, *shape), sizes if multiple else None)


def of_windows(model: TrainedModel, window: Sequence[int]) -> ExportedProgram:
    """The graph for windows of one size and any number."""
    return _graph(model, (2, *window), {0: _BATCH})


def _graph(model: TrainedModel, shape: Sequence[int], sizes: Any) -> ExportedProgram:
    batch, *window = shape
    image = torch.zeros(batch, model.card.in_channels, *window)
    network = copy.deepcopy(model.network).cpu().eval()
    with torch.no_grad(), quiet():
        return torch.export.export(network, (image,), dynamic_shapes=(sizes,))


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps torch's exporters from telling what they try, which takes much of their time."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _multiple(network: nn.Module, dims: int) -> tuple[int, ...] | None:
    """What sizes must be a multiple of so that a network does not pad, if that is known."""
    if isinstance(network, Padded):
        found = network.multiple
        return (found,) * dims if isinstance(found, int) else tuple(found)
    return getattr(network, "total_stride", None)


def refused(
    model: TrainedModel, form: str, error: Exception, remedy: str = _OTHER_FORMAT
) -> ConfigError:
    """Why a network cannot be had in a form, with the layer or operator that is to blame."""
    said = [*filter(None, map(str.strip, f"{error}\n{error.__cause__ or ''}".splitlines()))]
    blamed = next((line for line in said if "aten." in line or "torch.ops" in line), said[0])
    return ConfigError(
        f"{model.source}: {form} has no form of one of its operators ({blamed[:300]}); {remedy}, "
        "or rewrite the block with `medseg convert`"
    )


def is_cubic(card: ModelCard) -> bool:
    """Whether images are interpolated cubically onto the network's grid."""
    return card.preprocessing.get("interpolation") == "cubic"


def _format_of(card: ModelCard) -> int:
    """The first whose readers know all that a card asks for."""
    if card.preprocessing.get("crop"):
        return 3
    return 2 if card.labelling.overlap or is_cubic(card) else 1


def card_of(model: TrainedModel, found: Exported) -> dict[str, Any]:
    """What a program without medseg must know to use the network."""
    return {
        "format": _format_of(model.card),
        **model.card.plain(),
        "overlap": OVERLAP,
        "multiple": list(found.multiple),
        "sizes": found.sizes,
        "weights_sha256": model.sha256,
    }


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far a form lies from the network on noise.

    Args:
        labels: Share of voxels whose class is the same, in [0, 1].
        difference: Largest absolute difference of a logit.
        spread: Largest absolute logit.
    """

    labels: float
    difference: float
    spread: float

    def __str__(self) -> str:
        return (
            f"checked against PyTorch on noise: {self.labels:.4%} of the labels are equal, logits "
            f"of up to {self.spread:.3g} differ by at most {self.difference:.2g}"
        )


def sizes_to_compare(model: TrainedModel, found: Exported) -> list[tuple[int, ...]]:
    """A window, and where sizes are free another one."""
    pairs = zip(model.card.patch_size, found.multiple, strict=True)
    window = tuple(math.ceil(size / step) * step for size, step in pairs)
    return [window, tuple(2 * s for s in found.multiple)] if found.is_dynamic else [window]


def compared(
    model: TrainedModel,
    sizes: Sequence[Sequence[int]],
    form: Callable[[Tensor], Tensor],
    remedy: str = _OTHER_FORMAT,
) -> Agreement:
    """Runs a form and the network on noise of some sizes.

    Raises:
        ConfigError: they disagree.
    """

    def disagrees(how: str) -> ConfigError:
        return ConfigError(
            f"{model.source}: this form of the network computes something else ({how}) and is not "
            f"used; {remedy}, and report this"
        )

    network, noise = model.network.cpu().eval(), torch.Generator().manual_seed(0)
    equal = voxels = 0
    difference = spread = 0.0
    for size in sizes:
        image = torch.randn(1, model.card.in_channels, *size, generator=noise)
        with torch.no_grad():
            wanted, got = network(image), form(image)
        if got.shape != wanted.shape:
            raise disagrees(f"logits {tuple(got.shape)} instead of {tuple(wanted.shape)}")
        maps = (model.card.labelling.label_map(each, 1) for each in (got, wanted))
        equal += int(torch.eq(*maps).sum())
        voxels += wanted[:, 0].numel()
        difference = max(difference, float((got - wanted).abs().max()))
        spread = max(spread, float(wanted.abs().max()))
    agreement = Agreement(labels=equal / voxels, difference=difference, spread=spread)
    if not (agreement.labels >= _LABELS and difference <= _LOGITS * spread):
        raise disagrees(str(agreement))
    return agreement


def write_program(model: TrainedModel, folder: Path) -> list[str]:
    """Writes `model.pt2` for `torch.export.load`, the card among its extra files.

    Returns:
        Lines that say what was written.

    Raises:
        ConfigError: an operator has no graph, or the file computes something else.
    """
    found = exported(model)
    agreement = save_checked(model, found, folder / PROGRAM)
    return [f"takes {found.sizes}", str(agreement)]


def save_checked(model: TrainedModel, found: Exported, target: Path) -> Agreement:
    """Writes a graph for `torch.export.load`, once what was written agrees with the network.

    Raises:
        ConfigError: it computes something else.
    """
    card = json.dumps(card_of(model, found), indent=1)
    with atomic_path(target) as part:
        with part.open("wb") as file:
            torch.export.save(found.program, file, extra_files={"model.json": card})
        with part.open("rb") as file:
            form = torch.export.load(file).module()
        return compared(model, sizes_to_compare(model, found), form)
