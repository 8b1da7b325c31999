"""`python -m benchmarks.prediction`: a whole prediction, by stage, beside MONAI's and nnU-Net's.

A chest-CT-like volume goes from file to label map in a process of its own. The network has random
weights; what is measured is time and memory, not labels. The peers are MONAI's sliding window with
its `Invertd`, on the same network, grid, windows and overlap, and nnU-Net's with a U-Net of the
same widths in an environment of its own (`--nnunet`, the interpreter there).
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.nifti1 import Nifti1Image
from scipy.ndimage import gaussian_filter

from medseg.cli.compose import described
from medseg.data.preprocess import Preprocessing, Window
from medseg.models.description import build_network
from medseg.models.weights import ModelCard, load_model, save_model

SPACING = (0.7, 0.7, 2.5)
GRID_MM = 1.5
_SAYS_ITS_PLAN = "--max-memory", "1000GB"
_UNITS = {"M": 1 << 20, "G": 1 << 30}
_WAYS = [
    "medseg plain",
    "medseg OpenVINO",
    "medseg bf16",
    "medseg quick",
    "MONAI",
    "MONAI bf16",
    "nnU-Net",
]


def main() -> int:
    """Measures every row, in turns, and prints the table."""
    parser = _parser()
    arguments = parser.parse_args()
    if "nnU-Net" in arguments.ways and arguments.nnunet is None:
        parser.error("--ways nnU-Net: needs --nnunet, the Python of an environment with nnunetv2")
    if arguments.peer:
        model, image, out = arguments.peer
        return _monai(model, image, out, bf16=arguments.precision == "bf16")
    print("| classes | way | stages, s | wall, s | CPU, s | peak, GB | foreseen, GB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = arguments.volume or folder / "ct.nii.gz"
        if arguments.volume is None:
            # a process counts the peak of the one that started it as its own, so that stays small
            making = get_context("spawn").Process(
                target=_make_volume, args=(image, arguments.shape)
            )
            making.start()
            making.join()
            if making.exitcode:
                return 1  # it has said why
        models = {c: _model(folder / f"model_{c}", c, arguments) for c in arguments.classes}
        turns = itertools.product(models.items(), arguments.ways)
        for number, ((classes, model), way) in enumerate([*turns] * arguments.rounds):
            print(_row(classes, way, model, image, folder / f"out_{number}", arguments), flush=True)
    return 0


def _row(
    classes: int, way: str, model: Path, image: Path, out: Path, arguments: argparse.Namespace
) -> str:
    medseg = "-m", "medseg", "predict", "-m", model, "-i", image, "-o", out, *_SAYS_ITS_PLAN
    monai = "-m", "benchmarks.prediction", "--peer", model, image, out
    script, patch = Path(__file__).with_name("nnunet_prediction.py"), arguments.patch
    shape = "--classes", classes, "--patch", patch, "--channels", *arguments.channels
    words = {
        "nnU-Net": [script, image, out, *shape],
        "medseg plain": [*medseg, "--precision", "fp32", "--overlap", "0.5"],
        "medseg OpenVINO": [*medseg, "--precision", "fp32", "--engine", "openvino"],
        "medseg bf16": [*medseg, "--precision", "bf16", "--overlap", "0.5"],
        "medseg quick": [*medseg, "--precision", "bf16", "--overlap", "0.25"],
        "MONAI": [*monai, "--precision", "fp32"],
        "MONAI bf16": [*monai, "--precision", "bf16"],
    }[way]
    words = [*words, *(arguments.options.split() if way.startswith("medseg") else ())]
    out.mkdir()
    start = time.perf_counter()
    python = arguments.nnunet if way == "nnU-Net" else sys.executable
    with tempfile.TemporaryFile("w+") as said:
        command = [python, *map(str, words)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        said.seek(0)
        lines = said.read()
    if status:
        print(lines, file=sys.stderr)
        return f"| {classes} | {way} | failed ({status}) | | | | |"
    plan = re.search(r"([\d.]+) ([MG])iB in all", lines)
    foreseen = f"{float(plan[1]) * _UNITS[plan[2]] / 1e9:.2f}" if plan else ""
    seconds = json.loads(next(out.glob("*.json")).read_text())["seconds"]
    stages = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    cpu = used.ru_utime + used.ru_stime
    return f"| {classes} | {way} | {stages} | {wall:.1f} | {cpu:.1f} | {peak:.2f} | {foreseen} |"


def _monai(model: Path, image: Path, out: Path, *, bf16: bool) -> int:
    """The same prediction by MONAI's transforms, sliding window and `Invertd`."""
    from monai.data.meta_tensor import MetaTensor
    from monai.inferers.utils import sliding_window_inference
    from monai.transforms.compose import Compose
    from monai.transforms.intensity.dictionary import ScaleIntensityRanged
    from monai.transforms.io.dictionary import LoadImaged
    from monai.transforms.post.dictionary import Invertd
    from monai.transforms.spatial.dictionary import Orientationd, Spacingd

    trained, start = load_model(model), time.perf_counter()
    before = Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=[GRID_MM] * 3),
            ScaleIntensityRanged("image", -1000, 400, -1, 1, clip=True),
        ]
    )
    case: Any = before({"image": image})
    prepared = time.perf_counter()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = sliding_window_inference(
            case["image"][None],
            trained.card.patch_size,
            1,
            trained.network,
            overlap=0.5,
            mode="gaussian",
        )[0]
    computed = time.perf_counter()
    found = torch.softmax(torch.as_tensor(logits).float(), 0)
    case["pred"] = MetaTensor(found, meta=case["image"].meta)
    back = Invertd("pred", before, orig_keys="image", nearest_interp=False, to_tensor=True)
    labels = back(case)["pred"].argmax(0).numpy().astype(np.uint8)
    restored = time.perf_counter()
    Nifti1Image(labels, Nifti1Image.from_filename(image).affine).to_filename(out / "ct.nii.gz")
    seconds = {
        "preprocess": prepared - start,
        "network": computed - prepared,
        "restore": restored - computed,
        "write": time.perf_counter() - restored,
    }
    (out / "ct.json").write_text(json.dumps({"seconds": seconds}))
    return 0


def _make_volume(path: Path, shape: list[int]) -> None:
    """A body of smooth tissue in air, in Hounsfield units."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    is_body = (grid[0] / 0.8) ** 2 + (grid[1] / 0.6) ** 2 < 1
    tissue = gaussian_filter(rng.normal(size=shape).astype(np.float32), (8, 8, 2.5))
    body = 400 * tissue / tissue.std() + rng.normal(0, 20, shape)
    array = np.where(is_body, body, -1000 - np.abs(rng.normal(0, 10, shape)))
    Nifti1Image(array.astype(np.int16), np.diag([*SPACING, 1])).to_filename(path)


def _model(folder: Path, classes: int, arguments: argparse.Namespace) -> Path:
    torch.manual_seed(0)
    widths = arguments.channels
    size = f"model.encoder.channels={widths}", f"model.encoder.strides={[1] + [2] * 3}"
    patch = [arguments.patch] * 3
    known = f"data.num_classes={classes}", f"data.source.classes={classes - 1}"
    data = *known, "data.in_channels=1", f"data.patch_size={patch}"
    network = described("train", "model", "model=unet", "data=phantom", *data, *size)
    preprocessing = Preprocessing(intensity=Window(low=-1000, high=400), spacing=(GRID_MM,) * 3)
    card = ModelCard(
        network=network,
        preprocessing=preprocessing.describe(),
        dataset="random weights",
        in_channels=1,
        classes=[f"class {n}" for n in range(1, classes)],
        patch_size=patch,
    )
    save_model(folder, build_network(network), card)
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prediction", description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[3, 25, 100])
    parser.add_argument("--ways", nargs="+", choices=_WAYS, default=_WAYS[:-1])
    parser.add_argument("--nnunet", type=Path, help="Python of an environment with nnunetv2")
    parser.add_argument("--rounds", type=int, default=1, help="of all rows in turns")
    parser.add_argument("--volume", type=Path, help="a CT as NIfTI instead of a made one")
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 133])
    parser.add_argument("--channels", type=int, nargs=4, default=[16, 32, 64, 128])
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--options", default="", help="further ones of medseg predict")
    parser.add_argument("--peer", type=Path, nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
