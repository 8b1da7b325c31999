"""The grid of all networks: every slot and decoder."""

from itertools import cycle
from typing import Any

from medseg.blocks import downsample, skip, upsample

from ..blocks.specs import CONVS, DOWNSAMPLES, GUIDED_UPSAMPLES, SKIPS, UNITS, UPSAMPLES
from ..pairwise import pairwise_cells
from .networks import name_of, unet

NETWORKS = [*(("standard", join) for join in SKIPS), ("nested", None), ("full_scale", None)]
SLOTS = ("conv", "upsample", "unit", "downsample")
FACTORS: dict[str, list[Any]] = {
    "conv": CONVS,
    "upsample": [*UPSAMPLES, *GUIDED_UPSAMPLES],
    "unit": UNITS,
    "downsample": DOWNSAMPLES,
    "network": NETWORKS,
    "dims": [2, 3],
}


def is_impossible(cell: dict[str, Any]) -> bool:
    """Max-unpooling undoes the encoder's max pooling, stage by stage."""
    if not isinstance(cell.get("upsample"), upsample.MaxUnpool):
        return False
    pooled = isinstance(cell.get("downsample", downsample.MaxPool()), downsample.MaxPool)
    return not pooled or cell.get("network", ("", None))[0] == "full_scale"


def network_cells() -> list[dict[str, Any]]:
    """Cells in which every two classes of blocks meet; the options of a class take turns."""
    variants = {slot: {} for slot in SLOTS}
    for slot in SLOTS:
        for block in FACTORS[slot]:
            variants[slot].setdefault(type(block), []).append(block)
    classes = {slot: [blocks[0] for blocks in variants[slot].values()] for slot in SLOTS}
    turns = {cls: cycle(blocks) for slot in SLOTS for cls, blocks in variants[slot].items()}
    return [
        cell | {slot: next(turns[type(cell[slot])]) for slot in SLOTS}
        for cell in pairwise_cells(FACTORS | classes, is_impossible)
    ]


def network_of(cell: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The description of a cell; widths that every block can divide."""
    kind, join = cell["network"]
    joined = {} if join is None else {"skip": name_of(join)}
    blocks = {slot: name_of(cell[slot]) for slot in SLOTS}
    return unet(
        cell["dims"], channels=(16, 32), strides=(1, 2), decoder=kind, **blocks, **joined, **options
    )


def text_of(cell: dict[str, Any]) -> str:
    """A cell in words."""
    kind, join = cell["network"]
    name = f"{kind} {type(join).__name__}" if join else kind
    return ", ".join([f"{cell['dims']}-D", name, *(repr(cell[slot]) for slot in SLOTS)])


DEFAULTS = {
    "network": ("standard", skip.Concatenate()),
    "downsample": downsample.MaxPool(),
    "conv": CONVS[0],
    "unit": UNITS[0],
    "dims": 2,
}
