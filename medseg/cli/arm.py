"""One arm of a comparison, as Hydra overrides name it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.cli.options import composed, described

if TYPE_CHECKING:
    from medseg.models.description import Description


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A network and the data that it is given.

    Args:
        overrides: Of the training configuration.
        network: Its description.
        in_channels: Channels of the image.
        patch_size: In voxels.
        batch_size: Patches at once.
        spacing: In mm along the network's axes; None where each case keeps its own.
    """

    overrides: tuple[str, ...]
    network: "Description"
    in_channels: int
    patch_size: tuple[int, ...]
    batch_size: int
    spacing: tuple[float, ...] | None


def arm(overrides: Sequence[str]) -> Arm:
    """Composes an arm.

    Raises:
        ConfigError: an override that does not fit.
    """
    data = composed("train", "data", *overrides)
    return Arm(
        overrides=tuple(overrides),
        network=described("train", "model", *overrides),
        in_channels=data["in_channels"],
        patch_size=tuple(data["patch_size"]),
        batch_size=data["batch_size"],
        spacing=_spacing(data),
    )


def data_overrides(overrides: Sequence[str]) -> list[str]:
    """Those that choose or change the data."""
    return [o for o in overrides if o.lstrip("+").startswith(("data=", "data."))]


def _spacing(data: dict[str, Any]) -> tuple[float, ...] | None:
    if data["spacing"] is None:
        return None
    across = data["slice_axis"] if data["spatial_dims"] == 2 else None
    return tuple(mm for axis, mm in enumerate(data["spacing"]) if axis != across)
