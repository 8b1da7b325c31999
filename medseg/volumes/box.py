"""A box of voxels that is cut out of a volume, and results for it put back onto the whole grid."""

from dataclasses import dataclass, replace

import numpy as np

from medseg.volumes.reader import Volume


@dataclass(frozen=True)
class Box:
    """A part of the grid of a volume.

    Args:
        places: Along each array axis, where it begins and ends.
        whole: Voxels of the whole grid along them.
    """

    places: tuple[slice, ...]
    whole: tuple[int, ...]

    @classmethod
    def all_of(cls, volume: Volume) -> "Box":
        """The whole grid."""
        shape = volume.array.shape[-3:]
        return cls(tuple(slice(0, n) for n in shape), shape)

    @classmethod
    def of_content(cls, array: np.ndarray) -> "Box":
        """The smallest that holds all voxels that are not 0 in some channel; nnU-Net crops to it.

        It is the whole grid where all are 0. Only what lies outside is looked at, and no copy made.

        Args:
            array: `(channels, i, j, k)`.
        """
        whole = array.shape[-3:]
        places = [slice(0, n) for n in whole]
        for axis in range(3):
            planes = np.moveaxis(array[(slice(None), *places)], axis + 1, 0)
            first = next((n for n, plane in enumerate(planes) if plane.any()), None)
            if first is None:
                return cls(tuple(places), whole)
            last = next(n for n in reversed(range(len(planes))) if planes[n].any())
            places[axis] = slice(first, last + 1)
        return cls(tuple(places), whole)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(place.stop - place.start for place in self.places)

    def cut(self, volume: Volume) -> Volume:
        """That part of a volume, without a copy; its header stays that of the file."""
        if self.shape == self.whole:
            return volume
        affine = volume.geometry.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [place.start for place in self.places]
        geometry = replace(volume.geometry, affine=affine)
        return replace(volume, array=volume.array[(..., *self.places)], geometry=geometry)

    def put_back(self, part: np.ndarray, outside: float | np.ndarray = 0) -> np.ndarray:
        """Values `(..., *shape)` on the whole grid.

        Args:
            part: The values in the box.
            outside: Those around it; an array is broadcast.
        """
        if self.shape == self.whole:
            return part
        found = np.full((*part.shape[:-3], *self.whole), outside, part.dtype)
        found[(..., *self.places)] = part
        return found
