"""The real Decathlon task, read where it lies."""

import shutil
from pathlib import Path

import pytest

from medseg.data.decathlon import Decathlon
from medseg.errors import DataError

TASK = "Task04_Hippocampus"
SHARED = Path(__file__).parents[3] / "shared/data"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.skipif(not (SHARED / TASK).is_dir(), reason=f"{TASK} is not on this machine")
def test_the_real_task_is_read_in_place():
    before = names(SHARED)
    assert Decathlon(root=SHARED, download=True).prepare() == SHARED / TASK
    assert Decathlon(root=str(SHARED / TASK)).prepare() == SHARED / TASK
    assert names(SHARED) == before


@pytest.mark.skipif(not (SHARED / TASK).is_dir(), reason=f"{TASK} is not on this machine")
def test_the_real_task_with_a_file_missing(tmp_path):
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "imagesTr").symlink_to(SHARED / TASK / "imagesTr")
    shutil.copy(SHARED / TASK / "dataset.json", tmp_path)
    with pytest.raises(DataError, match=r"(?s)260 faults.*and 240 more.*data\.download=true"):
        Decathlon(root=tmp_path).prepare()
