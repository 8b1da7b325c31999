"""Devices by one vocabulary."""

import pytest
import torch

from medseg import hardware
from medseg.errors import ConfigError, ResourceError


class TestDevice:
    @pytest.fixture
    def gpus(self, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
        return request.param

    @pytest.mark.parametrize("device", ["meta", "mps", "cuda:", "cuda:x", "", "cpu:0", None])
    def test_an_unknown_name_is_refused(self, device: str) -> None:
        with pytest.raises(ConfigError, match=f"trainer.device={device!r} must be one of auto"):
            hardware.choose_device(device, key="trainer.device")

    @pytest.mark.parametrize(
        ("gpus", "device"),
        [(0, "cuda"), (0, "gpu"), (0, "cuda:0"), (2, "cuda:2")],
        indirect=["gpus"],
    )
    def test_a_gpu_that_is_not_there_is_refused(self, gpus: int, device: str) -> None:
        with pytest.raises(ResourceError, match=f"device={device}, but torch sees {gpus} GPUs"):
            hardware.choose_device(device)

    @pytest.mark.parametrize(
        ("gpus", "device", "chosen"),
        [(0, "auto", "cpu"), (1, "auto", "cuda"), (1, "cpu", "cpu"), (2, "cuda:1", "cuda:1")],
        indirect=["gpus"],
    )
    def test_a_device_is_found_by_its_name(self, gpus: int, device: str, chosen: str) -> None:
        assert hardware.choose_device(device) == torch.device(chosen)

    @pytest.mark.parametrize("gpus", [1], indirect=True)
    def test_the_old_word_works_and_the_new_one_is_named(
        self, gpus: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert hardware.choose_device("gpu") == torch.device("cuda")
        assert "device=cuda" in caplog.text
