"""CPU time of varying one patch: medseg's, MONAI's and nnU-Net's transforms in one run.

    pip install --no-deps --target FOLDER batchgeneratorsv2 batchgenerators
    PYTHONPATH=FOLDER python -m benchmarks.augmentation [--samples N]

Same kinds, magnitudes and probabilities (`augmentation=nnunet`), one channel, one thread, patches
cut beforehand with what lies around them. MONAI has no linear contrast; a second change of
brightness stands for it. Samples of the three take turns.
"""

# pyright: reportMissingImports=false

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import mean

import numpy as np
import torch
from monai.data.meta_obj import set_track_meta
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import (
    RandAdjustContrastd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
)
from monai.transforms.spatial.dictionary import RandAffined, RandFlipd, RandSimulateLowResolutiond
from torch import Tensor

from medseg.data.augmentation import Augmentation
from medseg.resources import keep_freed_memory

SIZES = ((40, 56, 40), (64, 64, 64), (96, 96, 96), (128, 128, 128), (160, 160, 160))
KEYS = ("image", "label")
Vary = Callable[[Tensor, Tensor], object]


def main() -> None:
    """Prints a Markdown table: milliseconds of CPU a sample."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=100)
    samples = parser.parse_args().samples
    torch.set_num_threads(1)
    keep_freed_memory()  # as a training does
    print("| patch | medseg | MONAI | batchgeneratorsv2 |\n| --- | --- | --- | --- |")
    for size in SIZES:
        varied = {"medseg": _medseg(size), "MONAI": _monai(size), "nnU-Net": _nnunet(size)}
        seconds = {name: mean(times) for name, times in _times(size, varied, samples).items()}
        own = seconds["medseg"]
        cells = [f"{1e3 * s:.1f} ({s / own:.1f}×)" for s in list(seconds.values())[1:]]
        print(f"| {'×'.join(map(str, size))} | {1e3 * own:.1f} | {' | '.join(cells)} |", flush=True)


def _times(size: Sequence[int], varied: dict[str, Vary], samples: int) -> dict[str, list[float]]:
    wide = [round(1.5 * n) for n in size]
    image = torch.randn(1, *wide, generator=torch.Generator().manual_seed(0))
    label = (image > 1).to(torch.uint8) + (image > 0)
    times: dict[str, list[float]] = {name: [] for name in varied}
    for number in range(-5, samples):  # the first five warm up
        for name, vary in varied.items():
            start = time.process_time()
            vary(image, label)
            if number >= 0:
                times[name].append(time.process_time() - start)
    return times


def _medseg(size: Sequence[int]) -> Vary:
    augmentation = Augmentation(
        flip_axes=(0, 1, 2), rotation=30, scale=(0.7, 1.4), contrast=0.15, low_resolution=0.125,
        gamma=0.3, inverted_gamma=0.1,
    )  # fmt: skip
    rng = np.random.default_rng(0)

    def vary(image: Tensor, label: Tensor) -> object:
        variation = augmentation.draw(rng, patch_size=size, spacing=(1, 1, 1), channels=1)
        middle = [
            (n - 1) // 2 + (1 - own % 2) / 2 for n, own in zip(image.shape[1:], size, strict=True)
        ]
        region = variation.region(middle, size, image.shape[1:])
        place = [m - along.start for m, along in zip(middle, region, strict=True)]
        return variation.apply(image[:, *region].clone(), label[:, *region].clone(), place, size)

    return vary


def _monai(size: Sequence[int]) -> Vary:
    set_track_meta(False)
    steps = Compose(
        [
            *(RandFlipd(KEYS, prob=0.5, spatial_axis=axis) for axis in range(3)),
            RandAffined(
                KEYS, prob=0.36, rotate_range=[np.pi / 6] * 3, scale_range=[(-0.3, 0.4)] * 3,
                mode=("bilinear", "nearest"), padding_mode="border",
            ),
            RandGaussianNoised("image", prob=0.1, std=0.1),
            RandGaussianSmoothd("image", (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=0.1),
            RandScaleIntensityd("image", factors=0.25, prob=0.15),
            RandScaleIntensityd("image", factors=0.25, prob=0.15),
            RandSimulateLowResolutiond("image", prob=0.125, zoom_range=(0.5, 1.0)),
            RandAdjustContrastd(
                "image", prob=0.1, gamma=(0.7, 1.5), retain_stats=True, invert_image=True
            ),
            RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        ]
    )  # fmt: skip
    steps.set_random_state(0)

    def vary(image: Tensor, label: Tensor) -> object:
        patch = (slice(None), *_middle(image, size))
        return steps({"image": image[patch].clone(), "label": label[patch].clone()})

    return vary


def _nnunet(size: Sequence[int]) -> Vary:
    from batchgeneratorsv2.transforms.intensity import brightness, contrast, gamma, gaussian_noise
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    factor, curve = contrast.BGContrast((0.75, 1.25)), contrast.BGContrast((0.7, 1.5))
    turn = (-np.pi / 6, np.pi / 6)
    steps = ComposeTransforms(
        [
            SpatialTransform(
                size, patch_center_dist_from_border=0, random_crop=False, p_elastic_deform=0,
                p_rotation=0.2, rotation=turn, p_scaling=0.2, scaling=(0.7, 1.4),
                p_synchronize_scaling_across_axes=1, bg_style_seg_sampling=False,
                mode_seg="nearest",
            ),
            RandomTransform(gaussian_noise.GaussianNoiseTransform((0, 0.1), 1, True), 0.1),
            RandomTransform(GaussianBlurTransform((0.5, 1.0), False, False, 0.5, True), 0.2),
            RandomTransform(brightness.MultiplicativeBrightnessTransform(factor, False, 1), 0.15),
            RandomTransform(contrast.ContrastTransform(factor, True, False, 1), 0.15),
            RandomTransform(
                SimulateLowResolutionTransform((0.5, 1), False, False, None, None, 0.5), 0.25
            ),
            RandomTransform(gamma.GammaTransform(curve, 1, False, 1, 1), 0.1),
            RandomTransform(gamma.GammaTransform(curve, 0, False, 1, 1), 0.3),
            MirrorTransform((0, 1, 2)),
        ]
    )  # fmt: skip

    def vary(image: Tensor, label: Tensor) -> object:
        return steps(image=image.clone(), segmentation=label.to(torch.int16))

    return vary


def _middle(image: Tensor, size: Sequence[int]) -> list[slice]:
    return [
        slice((n - own) // 2, (n - own) // 2 + own)
        for n, own in zip(image.shape[1:], size, strict=True)
    ]


if __name__ == "__main__":
    main()
