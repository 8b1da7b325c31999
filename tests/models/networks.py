"""Small networks of every kind, as descriptions."""

from collections.abc import Sequence
from typing import Any


def name_of(block: object) -> dict[str, Any]:
    """A block as a description."""
    room = type(block).__module__.removeprefix("medseg.")
    options = {
        key: name_of(value) if hasattr(value, "__dataclass_fields__") else value
        for key, value in vars(block).items()
    }
    return {"name": f"{room}.{type(block).__name__}"} | options


def block(name: str, **options: Any) -> dict[str, Any]:
    return {"name": f"blocks.{name}"} | options


def unet(
    dims: int = 2,
    *,
    in_channels: int = 1,
    channels: Sequence[int] = (4, 8, 8),
    strides: Sequence[Any] = (1, 2, 2),
    depths: Any = 1,
    num_classes: int = 3,
    deep_supervision: bool = False,
    encoder: dict[str, Any] | None = None,
    decoder: dict[str, Any] | None = None,
    **slots: Any,
) -> dict[str, Any]:
    """A description of a U-Net; `slots` are conv, downsample, upsample and unit."""
    conv = slots.get("conv", block("conv.Standard"))
    unit = slots.get("unit", block("unit.Plain"))
    shared = {
        "spatial_dims": dims,
        "channels": list(channels),
        "strides": list(strides),
        "depths": depths,
        "conv": conv,
        "unit": unit,
    }
    return {
        "name": "models.unet.UNet",
        "encoder": {
            "name": "models.encoder.Encoder",
            "in_channels": in_channels,
            "downsample": slots.get("downsample", block("downsample.Strided")),
            **shared,
            **(encoder or {}),
        },
        "decoder": {
            "name": "models.decoder.Decoder",
            "upsample": slots.get("upsample", block("upsample.Transposed")),
            **shared,
            **(decoder or {}),
        },
        "num_classes": num_classes,
        "deep_supervision": deep_supervision,
    }


MONAI_UNET = {
    "name": "monai.UNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8, 8],
    "strides": [2, 2],
}
