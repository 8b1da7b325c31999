"""nnU-Net's prediction of one volume, by stage; run by the interpreter of nnU-Net's environment.

    PYTHON benchmarks/nnunet_prediction.py IMAGE OUT --classes N --channels ... --patch N

Imports nothing of medseg. A U-Net of the same widths with random weights; no mirroring; the steps
of nnU-Net's `predict_from_files_sequential`, on as many threads as its command line takes.
"""

# pyright: reportMissingImports=false

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import torch

GRID_MM = 1.5


def main() -> None:
    """Predicts, and writes the seconds of every stage beside the label map."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--classes", type=int, required=True, help="with background")
    parser.add_argument("--channels", type=int, nargs="+", required=True)
    parser.add_argument("--patch", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(multiprocessing.cpu_count())
    predictor = _predictor(arguments.classes, arguments.channels, arguments.patch)
    plans, configuration = predictor.plans_manager, predictor.configuration_manager

    from nnunetv2.inference.export_prediction import export_prediction_from_logits

    start = time.perf_counter()
    data, _, properties = configuration.preprocessor_class(verbose=False).run_case(
        [str(arguments.image)], None, plans, configuration, predictor.dataset_json
    )
    prepared = time.perf_counter()
    logits = predictor.predict_logits_from_preprocessed_data(torch.as_tensor(data)).cpu()
    computed = time.perf_counter()
    out = arguments.out / arguments.image.name.removesuffix(".nii.gz")
    export_prediction_from_logits(
        logits, properties, configuration, plans, predictor.dataset_json, str(out)
    )
    seconds = {
        "preprocess": prepared - start,
        "network": computed - prepared,
        "restore and write": time.perf_counter() - computed,
    }
    out.with_suffix(".json").write_text(json.dumps({"seconds": seconds}))


def _predictor(classes: int, channels: list[int], patch: int) -> Any:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    stages = len(channels)
    network = {
        "n_stages": stages,
        "features_per_stage": channels,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3] * 3] * stages,
        "strides": [[1] * 3, *[[2] * 3] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    resampling: dict[str, Any] = {}
    for kind, order in (("data", 3), ("seg", 1), ("probabilities", 1)):  # nnU-Net's own plans
        name = f"resampling_fn_{kind}"
        options = {"is_seg": kind == "seg", "order": order, "order_z": 0, "force_separate_z": None}
        resampling |= {name: "resample_data_or_seg_to_shape", f"{name}_kwargs": options}
    configuration = {
        "data_identifier": "random",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [patch] * 3,
        "spacing": [GRID_MM] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": True,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    } | resampling
    statistics = {"mean": 0.0, "std": 300.0, "percentile_00_5": -1000.0, "percentile_99_5": 400.0}
    plans = PlansManager(
        {
            "dataset_name": "random",
            "plans_name": "random",
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "foreground_intensity_properties_per_channel": {"0": statistics},
            "configurations": {"3d_fullres": configuration},
        }
    )
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0} | {f"class {n}": n for n in range(1, classes)},
        "file_ending": ".nii.gz",
    }
    torch.manual_seed(0)
    chosen = plans.get_configuration("3d_fullres")
    network_ = nnUNetTrainer.build_network_architecture(
        plans, chosen, 1, classes, enable_deep_supervision=False
    )
    predictor = nnUNetPredictor(
        use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False, verbose=False
    )
    predictor.manual_initialization(
        network_, plans, chosen, [network_.state_dict()], dataset, "nnUNetTrainer", None
    )
    return predictor


if __name__ == "__main__":
    main()
