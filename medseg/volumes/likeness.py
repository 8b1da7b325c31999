"""What a volume is like, in numbers."""

import numpy as np

from medseg.record import ImageRange
from medseg.volumes.geometry import ras_affine, to_ras
from medseg.volumes.reader import Volume


def range_of(volume: Volume) -> ImageRange:
    """Spacing, extent, intensities and tilt of one volume whose voxels are finite."""
    affine = volume.geometry.affine
    turned = ras_affine(affine, volume.array.shape[-3:])[:3, :3]
    spacing = np.linalg.norm(turned, axis=0)
    extent = spacing * to_ras(volume.array, affine).shape[-3:]
    angles = np.degrees(np.arccos(np.clip(np.diag(turned) / spacing, -1, 1)))
    return ImageRange(
        spacing=[[size, size] for size in spacing.tolist()],
        extent=[[size, size] for size in extent.tolist()],
        intensity=[float(volume.array.min()), float(volume.array.max())],
        tilt=float(angles.max()),
    )
