"""Trained networks on disk: what is written is read again, anything else is refused."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from medseg import __version__
from medseg.errors import ConfigError, DataError, MedsegError
from medseg.models.description import build_network
from medseg.models.weights import ModelCard, load_model, read_checkpoint, save_model
from medseg.resources import peak_memory_bytes, restart_peak_memory

from .networks import MONAI_UNET, block, unet

DYNUNET = {
    "name": "monai.DynUNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 3,
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [4, 8, 8],
}
BATCH_NORM = unet(unit=block("unit.Plain", norm=block("norm.Batch")))


def rewritten(card: Path, **changes: Any) -> None:
    """A card as another program could have written it."""
    content = json.loads(card.read_text()) | {"card_sha256": None} | changes
    card.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def card_of(description: dict[str, Any]) -> ModelCard:
    return ModelCard(
        network=description,
        preprocessing={"name": "x", "spacing": [1.0, 0.5]},
        dataset="phantom",
        in_channels=1,
        classes=["tumeur é", "b"],
        patch_size=[16, 16],
    )


def assert_same_weights(a: nn.Module, b: nn.Module) -> None:
    assert list(a.state_dict()) == list(b.state_dict())
    for first, second in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert torch.equal(first, second)
        assert first.dtype == second.dtype


@pytest.fixture
def network() -> nn.Module:
    return build_network(unet())


@pytest.fixture
def folder(network, tmp_path) -> Path:
    save_model(tmp_path / "run" / "model", network, card_of(unet()))
    return tmp_path / "run" / "model"


def write_checkpoint(path: Path, network: nn.Module, **changes: Any) -> Path:
    content = {
        "state_dict": {f"network.{k}": v for k, v in network.state_dict().items()}
        | {"loss.weight": torch.ones(3)},
        "description": card_of(unet()).plain(),
        "epoch": 3,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content | changes, path)
    return path


class TestRoundTrip:
    @pytest.mark.parametrize(
        "description", [unet(), BATCH_NORM, MONAI_UNET, DYNUNET], ids=lambda d: d["name"]
    )
    def test_weights_and_card_come_back(self, description, tmp_path) -> None:
        network = build_network(description)
        network(torch.randn(2, 1, 16, 16))  # moves the running statistics of a batch norm
        save_model(tmp_path, network, card_of(description))
        model = load_model(tmp_path)
        assert_same_weights(model.network, network)
        assert model.card == card_of(description)
        assert model.card.medseg == __version__
        assert not model.network.training

    @pytest.mark.parametrize("name", ["..", ".", "weights.safetensors"])
    def test_a_run_a_model_and_its_file_are_the_same_model(self, name, folder) -> None:
        model = load_model(folder / name)
        assert model.source.resolve() == (folder / "weights.safetensors").resolve()
        assert json.loads((folder / "model.json").read_text())["weights_sha256"] == model.sha256

    def test_the_best_goes_before_the_last_and_the_model_before_both(self, network, folder) -> None:
        run = folder.parent
        last = write_checkpoint(run / "checkpoints" / "last.ckpt", network)
        best = write_checkpoint(run / "checkpoints" / "best.ckpt", network)
        assert load_model(run).source == folder / "weights.safetensors"
        shutil.rmtree(folder)
        assert load_model(run).source == best
        assert load_model(best).card == card_of(unet())
        best.unlink()
        assert load_model(run).source == last

    def test_saving_again_replaces_both_files(self, folder) -> None:
        other = build_network(unet())
        save_model(folder, other, card_of(unet()))
        assert_same_weights(load_model(folder).network, other)
        assert sorted(p.name for p in folder.iterdir()) == ["model.json", "weights.safetensors"]


class TestDamage:
    @pytest.mark.parametrize("size", [0, 4, 100, 1000, -1])
    def test_cut_weights_are_refused(self, size, folder) -> None:
        weights = folder / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:size])
        with pytest.raises(DataError, match=r"weights\.safetensors: damaged"):
            load_model(folder)

    def test_a_flipped_bit_is_refused(self, folder) -> None:
        weights = folder / "weights.safetensors"
        content = bytearray(weights.read_bytes())
        content[-3] ^= 1
        weights.write_bytes(bytes(content))
        with pytest.raises(DataError, match="not the weights its card was written for"):
            load_model(folder)

    def test_the_card_of_another_model_is_refused(self, folder, tmp_path) -> None:
        save_model(tmp_path / "other", build_network(unet()), card_of(unet()))
        shutil.copy(tmp_path / "other" / "model.json", folder)
        with pytest.raises(DataError, match="not the weights its card was written for"):
            load_model(folder)

    @pytest.mark.parametrize(
        "content", [None, b"", b"{", b"\xff", b"[]", b"3", b"{}", b'{"weights_sha256": null}']
    )
    def test_a_card_that_is_none_of_its_weights_is_refused(self, content, folder) -> None:
        card = folder / "model.json"
        card.unlink() if content is None else card.write_bytes(content)
        with pytest.raises(DataError, match=str(folder)):
            load_model(folder)

    @pytest.mark.parametrize(
        "change",
        [
            {"classes": None},
            {"extra": 1},
            {"in_channels": 1.5},
            {"in_channels": 0},
            {"in_channels": "1"},
            {"in_channels": True},
            {"patch_size": 16},
            {"patch_size": [16]},
            {"patch_size": [16, 16, 16, 16]},
            {"patch_size": [16, -16]},
            {"patch_size": [16, "16"]},
            {"classes": "liver"},
            {"classes": [[]]},
            {"preprocessing": []},
            {"network": "x"},
            {"network": []},
            {"dataset": {}},
        ],
        ids=json.dumps,
    )
    def test_a_card_with_other_fields_is_refused(self, change, folder) -> None:
        rewritten(folder / "model.json", **change)
        with pytest.raises(DataError, match="not a model's card"):
            load_model(folder)

    def test_a_card_that_was_changed_is_refused(self, folder) -> None:
        card = folder / "model.json"
        whole = card.read_text()
        for was, now in (("16", "24"), ("0.5", "0.6"), ("tumeur", "rumeur"), ("Plain", "Plane")):
            assert was in whole
            card.write_text(whole.replace(was, now, 1))
            with pytest.raises(DataError, match="damaged or changed"):
                load_model(folder)

    def test_a_card_of_an_older_version_is_read(self, folder) -> None:
        rewritten(folder / "model.json", medseg="0.1.0")
        assert load_model(folder).card.medseg == "0.1.0"

    @pytest.mark.parametrize(
        ("description", "message"),
        [
            ({"name": "os.system"}, "name='os.system' is not a part of a network"),
            ({"name": "blocks.conv.Standard"}, "is not a network"),
            ({}, "is not a network"),
        ],
    )
    def test_a_card_that_describes_no_network_is_refused(
        self, description, message, folder
    ) -> None:
        rewritten(folder / "model.json", network=description)
        with pytest.raises(ConfigError, match=message):
            load_model(folder)

    def test_weights_of_another_network_are_refused(self, folder) -> None:
        save_model(folder, build_network(unet(channels=(4, 8, 12))), card_of(unet()))
        with pytest.raises(DataError, match="do not fit the network of its card"):
            load_model(folder)

    @pytest.mark.parametrize(
        "change",
        [
            {"channels": (4, 10**7, 8)},
            {"channels": (10**6,) * 3},
            {"depths": 10**9},
            {"unit": block("unit.Residual", convs=2**16)},
            {"strides": [1, *[2] * 10**4], "channels": [4] * (10**4 + 1)},
            {"conv": block("conv.Standard", kernel_size=10001)},
            {"num_classes": 10**12},
        ],
        ids=["a layer", "layers", "a depth", "a unit", "stages", "a kernel", "classes"],
    )
    def test_a_card_of_a_network_beyond_memory_is_refused_before_it_is_built(
        self, change, folder
    ) -> None:
        rewritten(folder / "model.json", network=unet(**change))
        cpu = torch.device("cpu")
        restart_peak_memory(cpu)
        before = peak_memory_bytes(cpu)
        with pytest.raises(MedsegError):
            load_model(folder)
        assert peak_memory_bytes(cpu) - before < 2**28

    def test_missing_and_foreign_weights_are_refused(self, network, tmp_path) -> None:
        whole = {f"network.{k}": v for k, v in network.state_dict().items()}
        first = next(iter(whole))
        less = {key: value for key, value in whole.items() if key != first}
        for state in (whole | {"network.extra": torch.ones(1)}, less):
            path = write_checkpoint(tmp_path / "a.ckpt", network, state_dict=state)
            with pytest.raises(DataError, match="do not fit the network of its card"):
                load_model(path)

    def test_a_file_of_another_kind_is_refused(self, tmp_path) -> None:
        path = tmp_path / "model.pt"
        path.write_bytes(b"x")
        with pytest.raises(DataError, match=r"model\.pt: not a model; name a run's folder"):
            load_model(path)

    def test_an_empty_folder_is_refused_with_the_places_searched(self, tmp_path) -> None:
        with pytest.raises(DataError) as caught:
            load_model(tmp_path)
        for name in ("model/weights.safetensors", "checkpoints/best.ckpt", "has trained"):
            assert name in str(caught.value)
        for read in (load_model, read_checkpoint):
            with pytest.raises(DataError, match="nothing"):
                read(tmp_path / "nothing")


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class TestCheckpoint:
    @pytest.mark.parametrize("pack", ["torch", "pickle", "state", "description"])
    def test_a_pickle_that_would_run_code_is_refused_and_runs_none(
        self, pack, network, tmp_path
    ) -> None:
        mark, path = tmp_path / "ran", tmp_path / "a.ckpt"
        evil = Malicious(mark)
        match pack:
            case "torch":
                torch.save(evil, path)
            case "pickle":
                path.write_bytes(pickle.dumps({"state_dict": evil}))
            case "state":
                write_checkpoint(path, network, state_dict={"network.a": evil})
            case "description":
                write_checkpoint(path, network, description=evil)
        with pytest.raises(DataError, match=r"a\.ckpt: not a checkpoint.*would run code"):
            load_model(path)
        assert not mark.exists()
        if pack == "pickle":  # the trap is real
            pickle.loads(path.read_bytes())
            assert mark.exists()

    def test_a_flipped_bit_is_refused_or_changes_nothing(self, network, tmp_path) -> None:
        path = write_checkpoint(tmp_path / "a.ckpt", network)
        whole, wanted = path.read_bytes(), read_checkpoint(path)["state_dict"]
        refused = 0
        for place in range(0, len(whole), len(whole) // 150):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            path.write_bytes(bytes(damaged))
            try:
                found = read_checkpoint(path)["state_dict"]
            except DataError:
                refused += 1
                continue
            assert all(torch.equal(found[key], value) for key, value in wanted.items())
        assert refused > 50  # the rest lies between the tensors

    def test_a_file_without_checksums_is_refused(self, network, tmp_path) -> None:
        path = tmp_path / "a.ckpt"
        torch.save({"state_dict": {}}, path, _use_new_zipfile_serialization=False)
        with pytest.raises(DataError, match=r"a\.ckpt: not a checkpoint"):
            read_checkpoint(path)

    @pytest.mark.parametrize("size", [0, 10, 1000, -1])
    def test_a_cut_checkpoint_is_refused(self, size, network, tmp_path) -> None:
        path = write_checkpoint(tmp_path / "a.ckpt", network)
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(DataError, match=r"a\.ckpt: not a checkpoint.*damaged"):
            load_model(path)

    @pytest.mark.parametrize("content", [{}, [1], torch.ones(2), {"state_dict": [1]}], ids=str)
    def test_a_checkpoint_without_weights_is_refused(self, content, tmp_path) -> None:
        torch.save(content, tmp_path / "a.ckpt")
        with pytest.raises(DataError, match=r"a\.ckpt: holds no weights"):
            load_model(tmp_path / "a.ckpt")

    @pytest.mark.parametrize("description", [None, {}, {"network": {}}, [1]])
    def test_a_checkpoint_without_a_card_is_refused(self, description, network, tmp_path) -> None:
        path = write_checkpoint(tmp_path / "a.ckpt", network, description=description)
        with pytest.raises(DataError, match=r"a\.ckpt: not a model's card"):
            load_model(path)

    def test_plain_data_beside_the_weights_is_kept(self, network, tmp_path) -> None:
        content = read_checkpoint(write_checkpoint(tmp_path / "a.ckpt", network))
        assert content["epoch"] == 3
        assert torch.equal(content["state_dict"]["loss.weight"], torch.ones(3))


def test_weights_are_plain_safetensors(folder, network) -> None:
    state = load_file(folder / "weights.safetensors")
    assert set(state) == set(network.state_dict())
    save_file(state, folder / "copy.safetensors")  # nobody needs medseg to read them
