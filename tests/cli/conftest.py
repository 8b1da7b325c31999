from pathlib import Path

import pytest

from .user import User


@pytest.fixture
def user(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> User:
    return User(model_folder, tmp_path / "out", capsys)
