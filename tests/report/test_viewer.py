"""The 3-D viewer's volumes: small, in their place, and within their bytes."""

import base64
import gzip
import hashlib
import json
import re
from importlib import resources

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine

from medseg.report.cases.files import LONGEST, Opened, shrunk_affine, shrunk_image, shrunk_labels
from medseg.report.cases.viewer import Viewer, build_viewer, niivue
from medseg.volumes import ras_affine, to_ras

from .volume_runs import AFFINE, SHAPE, drawn_cases, label, write_runs

BUDGET = 8 * 2**20


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Opened]:
    _, opened = drawn_cases(write_runs(tmp_path_factory.mktemp("runs")))
    return opened


def viewer_of(
    volumes: dict[str, Opened], budget: int = BUDGET, classes: tuple[str, ...] = ("organ", "tumour")
) -> Viewer:
    cases = {case: (opened, {1: "missing", 2: "extra"}) for case, opened in volumes.items()}
    return build_viewer(cases, classes, budget_bytes=budget)


@given(
    st.tuples(*[st.sampled_from([1, 2, 127, 128, 129, 300]) for _ in range(2)]).map(
        lambda two: (*two, 2)
    )
)
def test_shrunk_volumes_keep_their_place(shape: tuple[int, ...]) -> None:
    affine = ras_affine(AFFINE, shape)
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    small = shrunk_image(image)
    factors = [-(-n // LONGEST) for n in shape]
    assert small.shape == tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))
    assert max(small.shape) <= LONGEST
    there = shrunk_affine(affine, shape)
    centre = apply_affine(there, np.zeros(3))
    corners = [apply_affine(affine, np.zeros(3)), apply_affine(affine, np.array(factors) - 1)]
    np.testing.assert_allclose(centre, np.mean(corners, axis=0))


def test_shrunk_labels_are_the_majority_of_their_block() -> None:
    whole = np.random.default_rng(0).integers(0, 4, (256, 3, 130)).astype(np.uint8)
    small = shrunk_labels(whole)
    assert small.shape == (128, 3, 65)
    for i, j, k in np.random.default_rng(1).integers(0, small.shape, (200, 3)):
        block = whole[2 * i : 2 * i + 2, j, 2 * k : 2 * k + 2]
        counts = np.bincount(block.ravel(), minlength=4)
        assert counts[small[i, j, k]] == counts.max()


def test_the_viewer_is_given_what_the_files_hold(volumes: dict[str, Opened]) -> None:
    viewer = viewer_of(volumes)
    data = json.loads(viewer.data)
    assert data["classes"] == ["organ", "tumour"]
    entry = next(entry for entry in data["cases"] if entry["case"] == "ease_0")
    found = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(entry["label"])))
    np.testing.assert_array_equal(np.asarray(found.dataobj), to_ras(label(), AFFINE))
    np.testing.assert_allclose(found.affine, ras_affine(AFFINE, SHAPE))
    (missing, extra) = entry["arms"]
    assert (missing["number"], extra["number"]) == (1, 2)
    assert gzip.decompress(base64.b64decode(viewer.library)).decode() == niivue()
    assert viewer.scripts == (viewer.script, niivue())


def test_the_viewer_keeps_to_its_bytes_and_names_what_it_left_out(
    volumes: dict[str, Opened],
) -> None:
    whole = viewer_of(volumes)
    assert whole.size <= BUDGET
    assert whole.left_out == ()
    less = viewer_of(volumes, whole.size - 1)
    assert less.size < whole.size
    assert less.left_out == (list(volumes)[-1],)
    none = viewer_of(volumes, 1000)
    assert none.data == ""
    assert len(none.left_out) == len(volumes)


def test_names_cannot_leave_the_viewers_data_block(volumes: dict[str, Opened]) -> None:
    viewer = viewer_of(volumes, classes=("</script><b>", "tumour"))
    assert "<" not in viewer.data
    assert json.loads(viewer.data)["classes"][0] == "</script><b>"


@pytest.mark.parametrize("taken", [0.2, 0.8])
def test_no_budget_is_ever_overdrawn(volumes: dict[str, Opened], taken: float) -> None:
    whole = viewer_of(volumes)
    budget = whole.size - round(taken * len(whole.data))
    assert viewer_of(volumes, budget).size <= budget


def test_the_library_is_the_one_that_its_note_describes() -> None:
    note = (resources.files("medseg.report") / "assets" / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(niivue().encode()).hexdigest() in note
    version = re.search(r"`@niivue/niivue`.*?\| ([\d.]+) \|", note)
    assert version
    page = resources.files("medseg.report") / "templates" / "cases.html.j2"
    assert f"NiiVue {version[1]} " in page.read_text(encoding="utf-8")
