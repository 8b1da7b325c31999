import pytest
import torch


@pytest.fixture(autouse=True)
def _seed(one_thread: None) -> None:
    torch.manual_seed(0)
