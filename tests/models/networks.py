"""Small networks of every kind, as descriptions."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from medseg.cli.compose import described

DECODERS = {
    "standard": "models.decoder.Decoder",
    "nested": "models.nested_decoder.NestedDecoder",
    "full_scale": "models.full_scale_decoder.FullScaleDecoder",
}


@cache
def preset(option: str, dims: int) -> dict[str, Any]:
    """The description of an option of `model`, for one channel and three classes."""
    shape = (f"data.spatial_dims={dims}", f"data.patch_size={[32] * dims}")
    data = ("data.in_channels=1", "data.num_classes=3", *shape)
    return described("train", "model", f"model={option}", *data)


def name_of(block: object) -> dict[str, Any]:
    """A block as a description; its module is a file of `medseg.blocks`."""
    module = type(block).__module__.removeprefix("medseg.")
    options = {
        key: name_of(value) if hasattr(value, "__dataclass_fields__") else value
        for key, value in vars(block).items()
    }
    return {"name": f"{module}.{type(block).__name__}"} | options


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
    decoder: str = "standard",
    of_encoder: dict[str, Any] | None = None,
    of_decoder: dict[str, Any] | None = None,
    **slots: Any,
) -> dict[str, Any]:
    """A description of a U-Net.

    `decoder` is one of `DECODERS`; `slots` are conv, downsample, upsample, unit, skip, and stage,
    which goes to both halves; `of_encoder` and `of_decoder` are options of one half.
    """
    shared = {
        "spatial_dims": dims,
        "channels": list(channels),
        "strides": list(strides),
        "depths": depths,
        "conv": slots.get("conv", block("conv.Standard")),
        "unit": slots.get("unit", block("unit.Plain")),
    } | {key: slots[key] for key in ("stage",) if key in slots}
    return {
        "name": "models.unet.UNet",
        "encoder": {
            "name": "models.encoder.Encoder",
            "in_channels": in_channels,
            "downsample": slots.get("downsample", block("downsample.Strided")),
            **shared,
            **(of_encoder or {}),
        },
        "decoder": {
            "name": DECODERS[decoder],
            "upsample": slots.get("upsample", block("upsample.Transposed")),
            **{key: slots[key] for key in ("skip",) if key in slots},
            **shared,
            **(of_decoder or {}),
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


def assert_it_trains(network: nn.Module, image: Tensor) -> None:
    """Finite logits of the image's size, and a gradient at every parameter."""
    logits = network(image)
    assert logits.shape == (image.shape[0], 3, *image.shape[2:])
    assert logits.isfinite().all()
    (logits * torch.randn_like(logits)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
