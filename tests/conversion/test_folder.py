"""The folder of a converted network: never the source's own, whole or absent."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.conversion import folder as conversion
from medseg.conversion.folder import check_output, save_whole
from medseg.errors import DataError, ResourceError
from medseg.models import weights
from medseg.models.description import build_network
from medseg.models.weights import ModelCard, TrainedModel, load_model, save_model

from ..models.networks import unet

FILES = ["model.json", "weights.safetensors"]
CARD = ModelCard(
    network=unet(),
    preprocessing={"name": "x"},
    dataset="phantom",
    in_channels=1,
    classes=["a", "b"],
    patch_size=[16, 16],
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def network():
    return build_network(unet())


@pytest.fixture
def run(tmp_path, network) -> TrainedModel:
    save_model(tmp_path / "runs" / "a" / "model", network, CARD)
    return load_model(tmp_path / "runs" / "a")


class TestCheck:
    def test_a_new_folder_may_be_written_and_is_not_made(self, run, tmp_path) -> None:
        check_output(tmp_path / "new" / "folder", run, overwrite=False)
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize("place", ["", "model", "model/below", "checkpoints", "b/.."])
    def test_the_run_itself_is_refused_even_where_overwriting_is_allowed(
        self, place, run, tmp_path
    ) -> None:
        folder = tmp_path / "runs" / "a" / place
        with pytest.raises(DataError, match=r"holds the network that is converted.*; choose"):
            check_output(folder, run, overwrite=True)

    def test_a_run_without_a_model_folder_is_known_by_its_checkpoints(self, run, tmp_path) -> None:
        checkpoint = tmp_path / "runs" / "b" / "checkpoints" / "best.ckpt"
        with pytest.raises(DataError, match="holds the network that is converted"):
            check_output(tmp_path / "runs" / "b", replace(run, source=checkpoint), overwrite=True)

    def test_beside_a_lone_checkpoint_there_is_room(self, run, tmp_path) -> None:
        alone = replace(run, source=tmp_path / "net.ckpt")
        check_output(tmp_path / "new", alone, overwrite=False)
        with pytest.raises(DataError, match="holds the network that is converted"):
            check_output(tmp_path, alone, overwrite=False)

    def test_a_link_to_the_run_is_the_run(self, run, tmp_path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "runs" / "a" / "model")
        with pytest.raises(DataError, match="holds the network that is converted"):
            check_output(tmp_path / "link", run, overwrite=True)

    def test_another_run_is_refused(self, run, network, tmp_path) -> None:
        save_model(tmp_path / "runs" / "b" / "model", network, CARD)
        with pytest.raises(DataError, match="is a run, whose own network it holds"):
            check_output(tmp_path / "runs" / "b", run, overwrite=True)

    def test_a_model_folder_that_is_converted_is_refused_but_not_its_neighbour(
        self, network, tmp_path
    ) -> None:
        save_model(tmp_path / "one", network, CARD)
        model = load_model(tmp_path / "one")
        with pytest.raises(DataError, match="holds the network"):
            check_output(tmp_path / "one", model, overwrite=True)
        check_output(tmp_path / "two", model, overwrite=False)

    @pytest.mark.parametrize("name", FILES)
    def test_a_model_that_is_there_is_kept_unless_it_may_be_replaced(
        self, name, run, tmp_path
    ) -> None:
        folder = tmp_path / "there"
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
        check_output(folder, run, overwrite=False)
        (folder / name).write_text("a model")
        with pytest.raises(DataError, match=rf"{name} exists; use --overwrite or choose another"):
            check_output(folder, run, overwrite=False)
        check_output(folder, run, overwrite=True)

    def test_a_file_is_no_folder(self, run, tmp_path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match="is a file and a model is a folder"):
            check_output(tmp_path / "file", run, overwrite=True)


class TestSave:
    def test_it_can_be_loaded(self, network, tmp_path) -> None:
        save_whole(tmp_path / "new" / "a b", network, CARD)
        assert names(tmp_path / "new") == ["a b"]
        assert names(tmp_path / "new" / "a b") == FILES
        assert load_model(tmp_path / "new" / "a b").card == CARD

    def test_everybody_may_read_it_who_may_read_other_files(self, network, tmp_path) -> None:
        (tmp_path / "usual").mkdir()
        save_whole(tmp_path / "new", network, CARD)
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == stat.S_IMODE(
            (tmp_path / "usual").stat().st_mode
        )

    def test_what_else_lies_in_the_folder_stays(self, network, tmp_path) -> None:
        save_whole(tmp_path / "new", network, CARD)
        (tmp_path / "new" / "notes.txt").write_text("mine")
        (tmp_path / "new" / "weights.safetensors").write_text("old")
        save_whole(tmp_path / "new", network, CARD)
        assert names(tmp_path / "new") == ["model.json", "notes.txt", "weights.safetensors"]
        assert load_model(tmp_path / "new").card == CARD

    @pytest.mark.parametrize("fault", [ResourceError("the disk is full"), KeyboardInterrupt()])
    def test_nothing_is_left_of_a_failure(self, fault, network, tmp_path, monkeypatch) -> None:
        def fails(*_: object) -> None:
            raise fault

        monkeypatch.setattr(weights, "write_text", fails)
        with pytest.raises(type(fault)):
            save_whole(tmp_path / "new", network, CARD)
        assert names(tmp_path) == []

    def test_a_folder_that_cannot_be_made_is_an_error_of_the_machine(
        self, network, tmp_path
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(
            ResourceError, match=r"cannot write .*file.* MiB are free there; choose"
        ):
            save_whole(tmp_path / "file" / "below", network, CARD)
        assert names(tmp_path) == ["file"]

    def test_a_rename_that_fails_leaves_the_old_model(self, network, tmp_path, monkeypatch) -> None:
        def fails(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(conversion.Path, "rename", fails)
        with pytest.raises(ResourceError, match="No space left on device"):
            save_whole(tmp_path / "new", network, CARD)
        assert names(tmp_path) == []
