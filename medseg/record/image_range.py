"""What images are like, in numbers, so that an image unlike those of training is noticed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_WAYS = ("from left to right", "from back to front", "from foot to head")
# Where a warning begins: scanners and fields of view vary by less within one use.
_SPACING_FACTOR, _EXTENT_FACTOR, _INTENSITY_SHARE, _TILT_DEGREES = 1.5, 2.0, 0.1, 15.0


@dataclass(frozen=True, kw_only=True)
class ImageRange:
    """From the smallest to the largest of some images; of one image, both are equal.

    Args:
        spacing: mm between voxels, `[low, high]` for each RAS axis.
        extent: mm that the image covers, `[low, high]` for each RAS axis.
        intensity: Lowest and highest of all voxels, as they were read.
        tilt: Degrees between an axis of voxels and the nearest of the body, at most.
    """

    spacing: list[list[float]]
    extent: list[list[float]]
    intensity: list[float]
    tilt: float

    @classmethod
    def joined(cls, ranges: Sequence["ImageRange"]) -> "ImageRange":
        """The range of all of them, at least one."""
        return cls(
            spacing=[_hull(axis) for axis in zip(*(r.spacing for r in ranges), strict=True)],
            extent=[_hull(axis) for axis in zip(*(r.extent for r in ranges), strict=True)],
            intensity=_hull([r.intensity for r in ranges]),
            tilt=max(r.tilt for r in ranges),
        )

    def differences(self, image: "ImageRange") -> list[str]:
        """How an image differs from these, a phrase for each; empty where it does not.

        Beyond 1.5 times the spacing, twice the extent, a tenth of the image's own range of
        intensities or 15 degrees of tilt.
        """
        return [
            *_beyond("voxels of", self.spacing, image.spacing, _SPACING_FACTOR),
            *_beyond("an image of", self.extent, image.extent, _EXTENT_FACTOR),
            *self._intensities(*image.intensity),
            *(
                [f"axes tilted by {image.tilt:.0f}°, in training by at most {self.tilt:.0f}°"]
                if image.tilt > self.tilt + _TILT_DEGREES
                else []
            ),
        ]

    def _intensities(self, low: float, high: float) -> Iterator[str]:
        known_low, known_high = self.intensity
        spare = _INTENSITY_SHARE * (high - low)  # those of training may differ by magnitudes
        if low == high:
            yield f"every voxel is {low:g}"
        elif low < known_low - spare or high > known_high + spare:
            yield (
                f"intensities of {low:g} to {high:g}, in training {known_low:g} to {known_high:g}"
            )


def _hull(ranges: Sequence[Sequence[float]]) -> list[float]:
    return [min(low for low, _ in ranges), max(high for _, high in ranges)]


def _beyond(
    what: str, known: list[list[float]], found: list[list[float]], factor: float
) -> Iterator[str]:
    for way, (low, high), (least, most) in zip(_WAYS, known, found, strict=True):
        if least < low / factor or most > high * factor:
            yield f"{what} {most:.4g} mm {way}, in training {low:.4g} to {high:.4g} mm"
