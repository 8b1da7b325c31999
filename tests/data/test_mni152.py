import nibabel as nib
import numpy as np
import pytest

from medseg.data.forms import read_dataset
from medseg.data.mni152 import Mni152, blocks, template_files, tissue_labels
from medseg.errors import DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def dataset(root):
    return read_dataset(Mni152(root=root).prepare())


@pytest.fixture(scope="module")
def template():
    return {key: nib.load(path) for key, path in template_files().items()}


def voxels(path):
    return np.asanyarray(nib.load(path).dataobj)


def slices_of(case_id):
    first, last = case_id.removeprefix("mni152_z").split("-")
    return slice(int(first), int(last) + 1)


def test_blocks_are_never_adjacent():
    for before, after in zip(blocks(), blocks()[1:], strict=False):
        assert after[0] - before[-1] - 1 >= 3  # slices dropped between them
    assert {len(block) for block in blocks()} == {12}


def test_each_case_is_the_slices_it_names(dataset, template):
    t1, grey, white = (np.asanyarray(template[k].dataobj) for k in ("t1", "gm", "wm"))
    rest = 255 - grey.astype(int) - white
    for case in dataset.cases:
        part = np.s_[:, :, slices_of(case.case_id)]
        label = voxels(case.label)
        np.testing.assert_array_equal(voxels(case.image), t1[part])
        most_probable = np.stack([rest[part], grey[part], white[part]]).argmax(axis=0)
        np.testing.assert_array_equal(label, most_probable)
        assert label.dtype == np.uint8
        assert ((label == 1).sum((0, 1)) >= 50).all()  # both tissues in each slice
        assert ((label == 2).sum((0, 1)) >= 50).all()


def test_each_block_lies_where_it_belongs_in_mni_space(dataset, template):
    for case in dataset.cases:
        first = slices_of(case.case_id).start
        for path in (case.image, case.label):
            image = nib.load(path)
            where = image.affine @ [0, 0, 0, 1]
            np.testing.assert_allclose(where, template["t1"].affine @ [0, 0, first, 1])
            np.testing.assert_allclose(where[:3], [-98, -134, first - 72])
            np.testing.assert_allclose(image.get_qform(), image.get_sform())
            assert image.header["sform_code"] == 4
            assert image.header.get_zooms() == (1, 1, 1)
            assert nib.aff2axcodes(image.affine) == ("R", "A", "S")


def test_ties_go_to_the_lower_value():
    grey = np.array([0, 255, 0, 127, 128, 85, 100], np.uint8)
    white = np.array([0, 0, 255, 0, 127, 85, 100], np.uint8)
    np.testing.assert_array_equal(tissue_labels(grey, white), [0, 1, 2, 0, 1, 0, 1])


def test_the_template_is_symmetric_so_hemispheres_must_not_be_split(template):
    for image in template.values():
        volume = np.asanyarray(image.dataobj)
        np.testing.assert_array_equal(volume, volume[::-1])


def test_written_once_and_again_for_another_rule(root, dataset, monkeypatch):
    image = dataset.cases[0].image
    before = image.stat().st_mtime_ns, image.read_bytes()
    Mni152(root=str(root)).prepare()
    assert image.stat().st_mtime_ns == before[0]
    monkeypatch.setattr("medseg.data.mni152._RULE", -1)
    Mni152(root=root).prepare()
    assert image.stat().st_mtime_ns != before[0]
    assert image.read_bytes() == before[1]  # the same voxels give the same bytes


def test_a_strange_folder_is_not_overwritten(tmp_path):
    (tmp_path / "MNI152").mkdir()
    (tmp_path / "MNI152/mine").touch()
    with pytest.raises(DataError, match="in the way"):
        Mni152(root=tmp_path).prepare()


def test_without_nilearn(monkeypatch):
    monkeypatch.setattr("medseg.data.mni152.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install"):
        template_files()
