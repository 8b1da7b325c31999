"""Facts of cases: boxes of known place and size, in any orientation."""

import numpy as np
import pytest
import torch

from medseg.build import build
from medseg.data.forms import read_dataset
from medseg.labelling import Labelling
from medseg.planning.fingerprint import Fingerprint, facts_of, fingerprint
from medseg.planning.planner import normalisation

from .fingerprints import made


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL"])
def test_facts_of_a_box_however_it_is_stored(as_volume, turn, codes) -> None:
    label = np.zeros((12, 14, 16), np.uint8)
    label[2:5, 3:10, 4:6] = 2
    image = np.zeros((1, 12, 14, 16), np.float32)
    image[0, 1:11, 2:12, 3:8] = np.where(label[1:11, 2:12, 3:8] == 2, 7.0, -1.0)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    pixels, there = turn(image, affine, codes)
    classes, _ = turn(label, affine, codes)
    facts = facts_of(
        "a",
        as_volume(pixels, there),
        as_volume(classes, there),
        Labelling(("none", "box")),
        samples=10,
    )
    assert facts.spacing == pytest.approx((1, 2, 3))
    assert (facts.size, facts.cropped) == ((12, 14, 16), (10, 10, 5))
    assert dict(facts.extents) == {"box": pytest.approx((3, 14, 6))}
    assert dict(facts.voxels) == {"none": 0, "box": 42}
    assert facts.intensities == [[7.0] * 10]
    assert facts.lowest == [-1.0]


def test_a_dataset_is_read_once(phantom, tmp_path, monkeypatch) -> None:
    dataset = read_dataset(phantom)
    found = fingerprint(dataset, cache=tmp_path)
    monkeypatch.setattr("medseg.planning.fingerprint.read_case_of", None)
    again = fingerprint(dataset, cache=tmp_path)
    assert len(again.cases) == len(dataset.cases) == len(found.cases)
    assert np.array_equal(again.spacings, found.spacings)
    assert Fingerprint.of(found.plain()).sizes.tolist() == found.sizes.tolist()


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:-9], lambda b: b.replace(b"1", b"2"), lambda b: b"\xff"]
)
def test_damaged_facts_are_read_again(phantom, tmp_path, caplog, damage) -> None:
    dataset = read_dataset(phantom)
    found = fingerprint(dataset, cache=tmp_path)
    (kept,) = tmp_path.rglob("fingerprint-*.json")
    kept.write_bytes(damage(kept.read_bytes()))
    assert fingerprint(dataset, cache=tmp_path).plain() == found.plain()
    assert str(kept) in caplog.text


@pytest.mark.parametrize(
    ("channels", "mappings"),
    [
        (("CT",), ["Window"]),
        (("ct", "CT"), ["Window"]),
        (("T1", "T2"), ["ZScore"]),
        (("CT", "PET"), ["Window", "ZScore"]),
        (("noNorm", "CT", "zscore"), ["Unchanged", "Window", "ZScore"]),
        (("rescale_to_0_1",), ["MinMax"]),
        (("rgb_to_0_1",) * 3, ["Window"]),
    ],
    ids=str,
)
def test_a_channel_is_mapped_by_its_name(channels: tuple, mappings: list[str]) -> None:
    intensity, why = normalisation(made((1, 1, 1), (20, 20, 20), channels=channels))
    parts = intensity.get("channels", [intensity])
    assert [part["_target_"] for part in parts] == [f"medseg.data.{name}" for name in mappings]
    assert why
    assert len(build(intensity)(torch.rand(len(channels), 2, 2, 2))) == len(channels)
