"""A trained network as a MONAI bundle: a folder that MONAI runs without medseg.

Volumes are prepared and restored by MONAI's own transforms, put together so that they compute what
`medseg.data.preprocess` does: MONAI's `Spacing` keeps the spacing to the last digit and lets the
grid's far end move, medseg keeps both ends; here `Resize` to medseg's size stands in its place.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from medseg import __version__
from medseg.errors import ConfigError
from medseg.export.program import (
    OVERLAP,
    Agreement,
    Exported,
    card_of,
    exported,
    is_cubic,
    save_checked,
)
from medseg.files import write_text
from medseg.models.weights import ModelCard, TrainedModel

FILES = (
    "configs/metadata.json",
    "configs/inference.json",
    "docs/README.md",
    "models/model.pt2",
)
_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
_WINDOWS_AT_ONCE = 4
_CROPPED = {  # its inverse pads scores with 0, of which the first class is the background
    "_target_": "CropForegroundd",
    "keys": "image",
    "source_key": "image",
    "select_fn": "$lambda image: (image != 0) | (image == 0).all()",
    "start_coord_key": None,
    "end_coord_key": None,
}
_LINEAR = (
    "Images are resampled linearly by the bundle and cubically by medseg, since MONAI has no cubic "
    "interpolation in 3-D; --format onnx resamples as medseg does."
)


def write_bundle(model: TrainedModel, folder: Path) -> list[str]:
    """Writes the bundle.

    Returns:
        Lines that say what was written.

    Raises:
        ConfigError: an operator has no graph, the file computes something else, or the network
            takes no window of the patch's size without padding.
    """
    if model.card.labelling.overlap:
        raise ConfigError(
            f"{model.source}: its regions overlap, of which MONAI's transforms make no label map; "
            "choose --format onnx, whose script does"
        )
    found = exported(model)
    patch = model.card.patch_size
    if any(size % step for size, step in zip(patch, found.multiple, strict=True)):
        raise ConfigError(
            f"{model.source}: patch_size={patch} must be a multiple of {list(found.multiple)}, of "
            "which a bundle's windows are; choose --format onnx, whose script pads them"
        )
    metadata, inference, readme, program = (folder / name for name in FILES)
    agreement = save_checked(model, found, program)
    write_text(metadata, json.dumps(_metadata(model, found), indent=1) + "\n")
    write_text(inference, json.dumps(_inference(model.card), indent=1) + "\n")
    write_text(readme, _readme(model.card, agreement))
    return [
        str(agreement),
        *([_LINEAR] if is_cubic(model.card) else []),
        f"PYTHONPATH= python -m monai.bundle run --config_file {inference} --meta_file {metadata} "
        f"--bundle_root {folder} --dataset_dir IMAGES --output_dir LABELS",
    ]


def _metadata(model: TrainedModel, found: Exported) -> dict[str, Any]:
    card = model.card
    names = ["background", *card.classes]
    image = {
        "type": "image",
        "format": "magnitude",
        "num_channels": card.in_channels,
        "spatial_shape": list(card.patch_size),
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        "channel_def": {str(n): f"channel {n}" for n in range(card.in_channels)}
        | {str(n): name for n, name in enumerate(card.channels)},
    }
    logits = {
        "type": "image",
        "format": "segmentation",
        "num_channels": len(names),
        "spatial_shape": list(card.patch_size),
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        "channel_def": {str(n): name for n, name in enumerate(names)},
    }
    return {
        "schema": _SCHEMA,
        "version": __version__,
        "changelog": {__version__: "exported by medseg"},
        "monai_version": version("monai"),
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"nibabel": version("nibabel")},
        "optional_packages_version": {"nibabel": version("nibabel")},
        "name": f"{card.dataset} by medseg",
        "task": f"segmentation of {', '.join(card.classes)}",
        "description": f"A network of medseg, trained on {card.dataset}.",
        "authors": "unknown",
        "copyright": "unknown",
        "data_type": "nibabel",
        "intended_use": "Research and teaching, not clinical decisions.",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": logits}},
        "medseg": card_of(model, found),
    }


def _inference(card: ModelCard) -> dict[str, Any]:
    return {
        "imports": ["$import glob", "$import torch", "$import monai"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/labels'",
        "images": "$sorted(glob.glob(@dataset_dir + '/*.nii*'))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": (
            "$torch.export.unflatten(torch.export.load(@bundle_root + '/models/model.pt2'))"
        ),
        "network": "$@network_def.to(@device)",
        **_preprocessing(card),
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': image} for image in @images]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "inferer": _inferer(card),
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd",
                    "keys": "pred",
                    "transform": "@preprocessing",
                    "orig_keys": "image",
                    "nearest_interp": False,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {
                    "_target_": "SaveImaged",
                    "keys": "pred",
                    "output_dir": "@output_dir",
                    "output_postfix": "",
                    "output_dtype": "$monai.utils.misc.np.uint8",
                    "separate_folder": False,
                    "resample": False,
                },
            ],
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "run": ["$@evaluator.run()"],
    }


def _inferer(card: ModelCard) -> dict[str, Any]:
    options = {
        "roi_size": list(card.patch_size),
        "sw_batch_size": _WINDOWS_AT_ONCE,
        "overlap": OVERLAP,
        "mode": "gaussian",
    }
    if len(card.patch_size) == 2:
        axis = card.preprocessing["slice_axis"]
        return {"_target_": "SliceInferer", "spatial_dim": axis, **options}
    return {"_target_": "SlidingWindowInferer", **options}


def _preprocessing(card: ModelCard) -> dict[str, Any]:
    intensity = card.preprocessing["intensity"]
    own = intensity["channels"] if intensity["name"] == "PerChannel" else None
    channels = own or [intensity] * card.in_channels
    return {
        "spacing": card.preprocessing["spacing"] or [None] * 3,
        "resize": {
            "_target_": "Resized",
            "keys": "image",
            "spatial_size": [1, 1, 1],
            "mode": "trilinear",
            "align_corners": False,
        },
        # both ends of an axis stay where they are, so that the spacing is met but for rounding
        "size": (
            "$lambda image: [max(1, round(n * float(own) / (want or float(own)))) for n, own, want "
            "in zip(image.shape[1:], monai.data.utils.affine_to_spacing(image.affine), @spacing)]"
        ),
        "sized": (
            "$lambda image: (setattr(@resize.resizer, 'spatial_size', tuple(@size(image))), "
            "image)[1]"
        ),
        "intensities": [_intensity(each) for each in channels],
        "scaled": (
            "$lambda image: image.clone().copy_(torch.cat([scale(channel[None]) for scale, channel "
            "in zip(@intensities, image.as_tensor())]))"
        ),
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
                *([_CROPPED] if card.preprocessing.get("crop") else []),
                {"_target_": "Lambdad", "keys": "image", "func": "@sized"},
                "@resize",
                {"_target_": "Lambdad", "keys": "image", "func": "@scaled"},
            ],
        },
    }


def _intensity(described: Mapping[str, Any]) -> dict[str, Any] | str:
    match described["name"]:
        case "ZScore":
            return {"_target_": "NormalizeIntensity", "nonzero": described["nonzero"]}
        case "Window":
            low, high = described["low"], described["high"]
            return {
                "_target_": "ScaleIntensityRange",
                "a_min": low, "a_max": high, "b_min": -1.0, "b_max": 1.0, "clip": True,
            }  # fmt: skip
        case "MinMax":
            return {"_target_": "ScaleIntensity", "minv": 0.0, "maxv": 1.0}
        case "Unchanged":
            return {"_target_": "Identity"}
        case name:
            raise ConfigError(f"intensity={name} has no form in MONAI; choose --format onnx")


def _readme(card: ModelCard, agreement: Agreement) -> str:
    classes = "\n".join(f"- {value}: {name}" for value, name in enumerate(card.classes, start=1))
    return (
        f"# {card.dataset}\n\nA network of medseg {card.medseg}. Label values:\n\n{classes}\n\n"
        f"The network was {agreement}. It needs torch, MONAI, pytorch-ignite and nibabel.\n"
        + (f"\n{_LINEAR}\n" if is_cubic(card) else "")
    )
