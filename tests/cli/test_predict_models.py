"""`medseg predict` and what is given to it as a model."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from .user import User

SaveScan = Callable[..., Path]


class Payload:
    """What a malicious pickle would do."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


def test_a_checkpoint_that_carries_code_is_refused_and_does_not_run(
    user: User, save_scan: SaveScan, scan: np.ndarray, tmp_path: Path
) -> None:
    target = tmp_path / "attacked"
    checkpoint = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": Payload(target)}, checkpoint)
    assert user.types(save_scan(scan), model=checkpoint) == 3
    (line,) = user.errors
    assert line.startswith(f"error: {checkpoint}: not a checkpoint of tensors and plain data")
    assert not target.exists()
    checkpoint.write_bytes(pickle.dumps(Payload(target)))
    assert user.types(save_scan(scan), model=checkpoint) == 3
    assert not target.exists()


def no_model(path: Path) -> None:
    path.mkdir()


def text(path: Path) -> None:
    path.write_text("weights?")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("missing", lambda _: None, "holds no model"),
        ("folder", no_model, "holds no model"),
        ("readme.txt", text, "not a model"),
        ("weights.safetensors", text, "damaged"),
        ("last.ckpt", text, "not a checkpoint"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(
    name: str,
    make: Callable,
    message: str,
    user: User,
    save_scan: SaveScan,
    scan: np.ndarray,
    tmp_path: Path,
) -> None:
    path = tmp_path / "models" / name
    path.parent.mkdir()
    make(path)
    assert user.types(save_scan(scan), model=path) == 3
    (line,) = user.errors
    assert line.startswith(f"error: {path}: ")
    assert message in line
    assert user.written() == []
