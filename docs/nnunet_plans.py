"""`medseg plan` beside nnU-Net's own planner: the table of docs/planning.md.

    python docs/nnunet_plans.py NNUNET_PYTHON [HIPPOCAMPUS]

NNUNET_PYTHON is the python of an environment with nnunetv2, HIPPOCAMPUS the folder of the
Decathlon's task, whose fingerprint is taken. Both planners get the same fingerprints.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from medseg.cli.compose import composed
from medseg.data.forms import read_dataset
from medseg.models.description import describe
from medseg.planning.fingerprint import CaseFacts, Fingerprint, fingerprint
from medseg.planning.network import network_of
from medseg.planning.planner import Choice, Chooser, choose_like_nnunet, grid_of

MEMORY_BYTES = 8_000_000_000
# name: spacing and size along RAS axes, cases, channels, classes without background
MADE = {
    "isotropic MR, four channels": ((1, 1, 1), (138, 169, 138), 484, 4, 3),
    "heart MR": ((1.25, 1.25, 1.37), (232, 320, 115), 20, 1, 1),
    "left atrium MR, cropped": ((0.625, 0.625, 0.625), (190, 126, 94), 20, 1, 1),
    "prostate MR, thick slices": ((0.62, 0.62, 3.6), (319, 320, 20), 32, 2, 2),
    "cine MR, very thick slices": ((1.56, 1.56, 10), (216, 256, 9), 100, 1, 3),
    "CT, liver": ((0.77, 0.77, 1), (512, 512, 482), 131, 1, 2),
    "CT, colon": ((0.78, 0.78, 3), (512, 512, 150), 126, 1, 1),
    "CT, whole body": ((1.5, 1.5, 1.5), (333, 333, 600), 1000, 1, 104),
    "pictures, small": ((1, 1, 1), (512, 384, 1), 100, 3, 1),
    "tiny volumes": ((1, 1, 1), (20, 17, 24), 50, 1, 1),
}
_NNUNET = """
import json, sys
from pathlib import Path
from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner
for name in json.loads(sys.argv[1]):
    planner = default_experiment_planner.ExperimentPlanner(name)
    planner.lowres_creation_threshold = 0  # the second, coarser network is not compared
    plans = planner.plan_experiment()
    own = plans["configurations"].get("3d_fullres") or plans["configurations"]["2d"]
    arch = own["architecture"]["arch_kwargs"]
    keep = {"axes": plans["transpose_forward"], "patch": own["patch_size"]}
    keep |= {"batch": own["batch_size"], "spacing": own["spacing"], "strides": arch["strides"]}
    keep |= {"channels": arch["features_per_stage"], "kernels": arch["kernel_sizes"]}
    plain = lambda value: value.tolist() if hasattr(value, "tolist") else str(value)
    print("PLAN", json.dumps([name, keep], default=plain))
"""


def made(name: str) -> Fingerprint:
    """A fingerprint of cases that are all alike."""
    spacing, size, cases, channels, classes = MADE[name]
    names = tuple(f"class {number}" for number in range(classes))
    facts = CaseFacts(
        case_id="a",
        spacing=spacing,
        size=size,
        cropped=size,
        extents={},
        voxels={},
        intensities=[[0.0]] * channels,
        lowest=[0.0] * channels,
    )
    own = ("MRI",) * channels
    return Fingerprint(name=name, channels=own, classes=names, cases=(facts,) * cases)


def nnunet_plans(python: str, facts: dict[str, Fingerprint]) -> dict[str, Any]:
    """nnU-Net's own plan of each fingerprint."""
    with tempfile.TemporaryDirectory() as root:
        folders = {key: Path(root) / key for key in ("raw", "preprocessed", "results")}
        names = {}
        for number, (name, own) in enumerate(facts.items(), start=1):
            names[f"Dataset{number:03d}_Made"] = name
            for key in folders:
                (folders[key] / f"Dataset{number:03d}_Made").mkdir(parents=True)
            labels = {"background": 0} | {n: i for i, n in enumerate(own.classes, start=1)}
            flat = own.cases[0].size[2] == 1
            description = {
                "channel_names": {str(i): name for i, name in enumerate(own.channels)},
                "labels": labels,
                "numTraining": len(own.cases),
                "file_ending": ".nii.gz",
                "overwrite_image_reader_writer": "SimpleITKIO",
                "dataset": {"a": {"images": ["a.nii.gz"], "label": "a.nii.gz"}},
            }
            spacings = [list(case.spacing)[::-1] for case in own.cases]
            if flat:  # as nnU-Net's reader of pictures has it
                spacings = [[999.0, *spacing[1:]] for spacing in spacings]
            found = {
                "spacings": spacings,
                "shapes_after_crop": [list(case.cropped)[::-1] for case in own.cases],
                "foreground_intensity_properties_per_channel": {},
                "median_relative_size_after_cropping": own.relative_size,
            }
            dataset = f"Dataset{number:03d}_Made"
            (folders["raw"] / dataset / "dataset.json").write_text(json.dumps(description))
            place = folders["preprocessed"] / dataset / "dataset_fingerprint.json"
            place.write_text(json.dumps(found))
        places = {f"nnUNet_{key}": str(folder) for key, folder in folders.items()}
        done = subprocess.run(
            [python, "-c", _NNUNET, json.dumps(list(names))],
            env=os.environ | places,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(done.stderr)
        lines = [line for line in done.stdout.splitlines() if line.startswith("PLAN ")]
        plans = dict(json.loads(line.removeprefix("PLAN ")) for line in lines)
        return {names[dataset]: plan for dataset, plan in plans.items()}


def own_plans(facts: Fingerprint) -> tuple[Choice, Choice]:
    """By nnU-Net's estimate of memory, and by exact prediction for the same 8 GB."""
    dims = 2 if facts.cases[0].size[2] == 1 else 3
    channels, classes = len(facts.channels), len(facts.classes) + 1
    sizes = [f"data.in_channels={channels}", f"data.num_classes={classes}"]
    shape = [f"data.spatial_dims={dims}", f"data.patch_size={[32] * dims}", "data=phantom"]
    config = composed("train", *shape, *sizes, "trainer.precision=bf16")
    grid = grid_of(facts, config["data"], ())
    network = network_of(config, describe(config["model"]), torch.device("cpu"), is_free=True)
    exact = Chooser(
        grid=grid,
        network=network,
        num_classes=classes,
        memory_bytes=MEMORY_BYTES,
        step_seconds=float("inf"),
    )
    return choose_like_nnunet(grid, num_classes=classes, memory_gb=8), exact.choose()


def along_body(plan: dict[str, Any]) -> tuple[list[int], list[list[int]], list[list[int]]]:
    """Patch, strides and kernels of nnU-Net's plan along RAS axes."""
    dims = len(plan["patch"])
    axes = [2 - axis for axis in plan["axes"]][-dims:]

    def turned(values: list[int]) -> list[int]:
        return [value for _, value in sorted(zip(axes, values, strict=True))]

    strides = [turned(steps) for steps in plan["strides"]]
    return turned(plan["patch"]), strides, [turned(taps) for taps in plan["kernels"]]


def main() -> None:
    """Prints the table."""
    python, *hippocampus = sys.argv[1:]
    facts = {}
    if hippocampus:
        facts["Hippocampus"] = fingerprint(read_dataset(hippocampus[0]))
    facts |= {name: made(name) for name in MADE}
    theirs = nnunet_plans(python, facts)
    head = ("dataset", "nnU-Net", "`--nnunet`", "all the same", "`--memory 8`")
    print(f"Patch, batch, stages:\n\n| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for name, own in facts.items():
        like, exact = own_plans(own)
        patch, strides, kernels = along_body(theirs[name])
        same = (
            list(like.shape.patch) == patch
            and like.batch == theirs[name]["batch"]
            and [list(steps) for steps in like.shape.strides] == strides
            and [list(taps) for taps in like.shape.kernels] == kernels
            and list(like.shape.channels) == theirs[name]["channels"]
        )
        cells = [f"{_size(patch)}, {theirs[name]['batch']}, {len(strides)}"]
        cells += [
            f"{_size(c.shape.patch)}, {c.batch}, {len(c.shape.strides)}" for c in (like, exact)
        ]
        row = (name, *cells[:2], "yes" if same else "no", cells[2])
        print(f"| {' | '.join(row)} |", flush=True)


def _size(patch: Any) -> str:
    return "×".join(map(str, patch))


if __name__ == "__main__":
    main()
