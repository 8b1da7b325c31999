import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.data.forms import read_dataset
from medseg.data.phantom import ORIENTATIONS, Phantom, phantom_case
from medseg.errors import ConfigError


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return Phantom(root=tmp_path_factory.mktemp("data"), channels=2, cases=7)


@pytest.fixture(scope="module")
def dataset(phantom):
    return read_dataset(phantom.prepare())


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_description(dataset):
    assert dataset.classes == ("ellipsoid 1", "ellipsoid 2")
    assert (dataset.in_channels, dataset.num_classes) == (2, 3)
    assert [case.case_id for case in dataset.cases] == [f"phantom_{n:03d}" for n in range(7)]


def test_cases_are_stored_in_all_orientations_and_mean_the_same(dataset):
    codes = set()
    for index, case in enumerate(dataset.cases):
        image, label = phantom_case(index, channels=2)
        for path, truth in ((case.image, np.moveaxis(image, 0, -1)), (case.label, label)):
            stored = nib.load(path)
            codes.add("".join(nib.aff2axcodes(stored.affine)))
            ras = nib.as_closest_canonical(stored)
            np.testing.assert_array_equal(np.asanyarray(ras.dataobj), truth)
            np.testing.assert_allclose(ras.header.get_zooms()[:3], (1.0, 1.0, 1.5))
            np.testing.assert_allclose(ras.affine[:3, 3], [-20, -22, -27])
            np.testing.assert_allclose(stored.get_qform(), stored.get_sform(), atol=1e-6)
    assert codes == set(ORIENTATIONS)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), index=st.integers(0, 99), classes=st.integers(1, 3))
def test_ellipsoids_lie_inside_each_other_and_inside_the_volume(seed, index, classes):
    _, label = phantom_case(
        index, seed=seed, classes=classes, shape=(40, 44, 42), spacing=(1, 1, 1)
    )
    assert set(np.unique(label)) == set(range(classes + 1))
    for value in range(1, classes + 1):
        inside = label >= value
        assert ndimage.label(inside)[1] == 1
        around = ndimage.binary_dilation(inside) & ~inside
        assert (label[around] == value - 1).all()
        radius = 1 - (value - 1) / classes  # the ratio breaks if the border cuts the outermost
        assert inside.sum() / (label > 0).sum() == pytest.approx(radius**3, rel=0.2)


def test_intensities_are_class_mean_and_noise():
    image, label = phantom_case(3, channels=2, noise=0.0)
    for channel, means in ((0, (0, 0.5, 1)), (1, (1, 0.5, 0))):
        for value, mean in enumerate(means):
            bias = image[channel][label == value] - mean
            assert np.abs(bias).max() <= 0.15 + 1e-6
    noisy, same = phantom_case(3, noise=0.1)
    assert (same == label).all()
    residue = noisy[0] - ndimage.median_filter(noisy[0], 5)
    assert residue[label == 0].std() == pytest.approx(0.1, rel=0.1)


def test_the_same_parameters_give_the_same_bytes(dataset, phantom, tmp_path):
    again = Phantom(
        root=str(tmp_path), channels=2, cases=7, shape=[40, 44, 36], spacing=[1, 1, 1.5]
    ).prepare()
    assert again.name == dataset.folder.name
    assert contents(again) == contents(dataset.folder)


def test_other_parameters_give_another_folder(tmp_path):
    names = {
        Phantom(root=tmp_path, shape=(16, 16, 16), **{"cases": 2, **changes}).prepare().name
        for changes in ({}, {"seed": 1}, {"noise": 0.1}, {"cases": 3}, {"classes": 1})
    }
    assert len(names) == 5
    assert all(name.startswith("Phantom-") for name in names)


def test_written_once(dataset, phantom):
    before = dataset.cases[0].image.stat().st_mtime_ns
    assert phantom.prepare() == dataset.folder
    assert dataset.cases[0].image.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "changes",
    [
        {"cases": 1},
        {"shape": (40, 44)},
        {"shape": (40, 8, 40)},
        {"spacing": (1, 0, 1)},
        {"spacing": (1, 1)},
        {"classes": 0},
        {"classes": 5},
        {"channels": 0},
        {"noise": -0.1},
        {"seed": -1},
    ],
)
def test_impossible_parameters_are_refused(tmp_path, changes):
    with pytest.raises(ConfigError, match=f"{next(iter(changes))}="):
        Phantom(root=tmp_path, **changes)


def test_a_grid_too_coarse_for_the_classes_is_refused():
    with pytest.raises(ConfigError, match="too coarse"):
        phantom_case(0, shape=(16, 16, 16), spacing=(1, 1, 100), classes=4)
