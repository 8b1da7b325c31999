"""`medseg plan`, and plans in the other commands, as a user has them."""

import hashlib
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from tests_support import QUICK, the_run

from medseg.cli.ablate import main as ablate
from medseg.cli.audit import main as audit
from medseg.cli.compose import composed
from medseg.cli.plan import main as plan
from medseg.cli.train import main as train
from medseg.data.building import write_case, write_description
from medseg.record import RunRecord

SMALL = ["data.patch_size=[8,8,8]", "data.batch_size=2", "data.batches_per_epoch=1"]
NETWORK = ["model.encoder.channels=[4,8]", "model.encoder.strides=[1,2]", "model.encoder.depths=1"]
BRIEF = ["trainer.epochs=1", "trainer.validate_every=1", "trainer.device=cpu", *QUICK]
TINY = [*SMALL, *NETWORK, *BRIEF]


@pytest.fixture(scope="module")
def planned(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan of the phantoms."""
    file = tmp_path_factory.mktemp("plan") / "a plan (1), größer.yaml"
    assert plan([str(phantom), "--nnunet", "-o", str(file), f"data.cache={file.parent}"]) == 0
    return file


def places(folder: Path) -> list[str]:
    return [f"data.cache={folder}/cache", f"runs={folder}/runs"]


def test_a_plan_is_composed_and_what_is_given_goes_before_it(planned, phantom) -> None:
    written = yaml.safe_load(planned.read_text())
    config = composed("train", f"plan={planned}")
    assert config["data"]["patch_size"] == written["data"]["patch_size"]
    assert config["data"]["spacing"] == written["data"]["spacing"]
    assert config["model"]["encoder"]["channels"] == written["model"]["encoder"]["channels"]
    assert config["model"]["decoder"]["strides"] == written["model"]["encoder"]["strides"]
    assert config["data"]["root"] == str(phantom)
    other = composed("train", "data.batch_size=3", f"plan={planned}", "data.spacing=[2,2,2]")
    assert (other["data"]["batch_size"], other["data"]["spacing"]) == (3, [2, 2, 2])


def test_groups_that_are_given_go_before_a_plan_too(planned) -> None:
    root = f"data.root={planned.parent}"  # where a phantom may be made
    config = composed("train", "model=resenc_unet", f"plan={planned}", "data=phantom", root)
    assert config["data"]["source"]["_target_"].endswith("Phantom")
    assert config["model"]["encoder"]["unit"]["_target_"].endswith("Residual")


def test_every_arm_of_an_ablation_has_the_plan(planned, tmp_path) -> None:
    arms = "conv@model.encoder.conv=standard,pointwise"
    words = [arms, f"plan={planned}", *TINY, *places(tmp_path)]
    assert ablate(words) == 0
    configs = [RunRecord.read(p).config for p in (tmp_path / "runs").rglob("record.json")]
    assert len({c["model"]["encoder"]["conv"]["_target_"] for c in configs}) == 2
    assert {c["planned"]["text"] for c in configs} == {planned.read_text()}
    spacing = yaml.safe_load(planned.read_text())["data"]["spacing"]
    assert all(c["data"]["spacing"] == spacing for c in configs)


def test_a_plan_is_priced(planned, capsys) -> None:
    assert audit([f"plan={planned}", "--patch-size", "16", "16", "16"]) == 0
    assert "16 × 16 × 16" in capsys.readouterr().out


def test_values_that_were_given_stay_in_the_file(phantom, tmp_path) -> None:
    file = tmp_path / "plan.yaml"
    given = ["data.spacing=[2,2,2]", "model=resenc_unet", "conv@model.encoder.conv=dilated"]
    words = [*given, "trainer.epochs=7", f"data.cache={tmp_path}"]
    assert plan([str(phantom), "--nnunet", "-o", str(file), *words]) == 0
    config = composed("train", f"plan={file}")
    assert config["data"]["spacing"] == [2, 2, 2]
    assert config["trainer"]["epochs"] == 7
    assert config["model"]["encoder"]["conv"]["_target_"].endswith("Dilated")
    depths = config["model"]["encoder"]["depths"]
    assert len(depths) == len(config["model"]["encoder"]["strides"])
    assert str(tmp_path) not in file.read_text()


def test_a_run_keeps_its_plan_and_goes_on_without_the_file(planned, tmp_path) -> None:
    own = tmp_path / "mine.yaml"
    shutil.copyfile(planned, own)
    assert train([f"plan={own}", *TINY, *places(tmp_path)]) == 0
    run = the_run(tmp_path)
    kept = RunRecord.read(run / "record.json").config["planned"]
    assert kept["text"] == own.read_text()
    assert kept["sha256"] == hashlib.sha256(own.read_bytes()).hexdigest()
    own.unlink()
    assert train([f"resume={run}", "trainer.epochs=2", f"data.cache={tmp_path}/cache"]) == 0


def test_a_folder_without_a_plan_gets_one_for_all_runs(phantom, tmp_path, caplog, capsys) -> None:
    words = ["data=folder", f"data.root={phantom}", *NETWORK, f"data.cache={tmp_path}/a cache"]
    words += ["data.batches_per_epoch=1", "data.patch_size=[8,8,8]", "trainer.device=cpu"]
    runs = [*words, *BRIEF, f"runs={tmp_path}/runs"]
    assert audit(words) == 0
    assert "medseg plan" in caplog.text
    assert ablate([*runs, "seed=0,1"]) == 0
    (kept,) = (tmp_path / "a cache").rglob("plan-*.yaml")
    first, other = (RunRecord.read(p).config for p in (tmp_path / "runs").rglob("record.json"))
    assert first["planned"] == other["planned"]
    assert first["planned"]["text"] == kept.read_text()
    assert first["data"]["patch_size"] == [8, 8, 8]
    assert first["model"]["encoder"]["channels"] == [4, 8]
    assert first["data"]["spacing"] is not None
    capsys.readouterr()
    assert audit(words) == 0
    assert f"batch {first['data']['batch_size']}" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "runs")
    assert train([*runs, "plan=null"]) == 0
    assert RunRecord.read(the_run(tmp_path) / "record.json").config["planned"] is None


def test_a_plan_for_other_classes_is_refused_and_other_cases_are_told(
    planned, phantom, tmp_path, caplog, capsys
) -> None:
    other = tmp_path / "other"
    shutil.copytree(phantom, other)
    description = json.loads((other / "dataset.json").read_text())
    description["training"] = description["training"][1:]
    (other / "dataset.json").write_text(json.dumps(description))
    words = [f"plan={planned}", f"data.root={other}", *TINY, *places(tmp_path)]
    assert train(words) == 0
    assert "other cases" in caplog.text
    description["labels"]["2"] = "elsewhere"
    (other / "dataset.json").write_text(json.dumps(description))
    assert train(words) == 2
    assert "elsewhere" in capsys.readouterr().err


HOSTILE = {
    "Hydra's settings": "hydra: {run: {dir: /tmp}}",
    "a launcher": "defaults: ['override /hydra/launcher: joblib']",
    "a launcher as a choice": "defaults: [{override /hydra/launcher: joblib}]",
    "environment": "data: {name: '${oc.env:HOME}'}",
    "download": "data: {download: true}",
    "cache": "data: {cache: /tmp}",
    "where a dataset is made": "{defaults: [{override /data: phantom}], data: {root: /tmp/x}}",
    "where a source writes": "data: {source: {root: /tmp/x}}",
    "a number for names": "planned: {channels: 3}",
    "other runs": "runs: /tmp",
    "a list": "[1, 2]",
    "no YAML": "data: [",
    "a tag": "data: !!python/object/apply:os.system [ls]",
    "a word for a section": "data: 3",
    "unknown key": "data: {patch: [8, 8, 8]}",
    "unknown option": "defaults: [{override /model: unett}]",
    "a path as an option": "defaults: [{override /model: ../../x}]",
    "empty": "",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_plan_describes_runs_alone(name, tmp_path, phantom, capsys) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(HOSTILE[name])
    words = [f"plan={file}", *TINY, *places(tmp_path), f"data.root={phantom}"]
    assert train(words) == 2
    assert "error:" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_plan_that_is_not_there(tmp_path, capsys) -> None:
    assert train([f"plan={tmp_path}/none.yaml", *places(tmp_path)]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_a_plan_that_was_edited_is_not_replaced(phantom, tmp_path) -> None:
    file = tmp_path / "plan.yaml"
    words = [str(phantom), "--nnunet", "-o", str(file), f"data.cache={tmp_path}"]
    assert plan(words) == plan(words) == 0
    file.write_text(file.read_text() + "# mine\n")
    assert plan(words) == 2
    assert file.read_text().endswith("# mine\n")


@pytest.mark.parametrize(
    "words",
    [
        ["--nnunet", "data.patch_size=[64,64,64]"],
        ["--memory", "0"],
        ["--step-seconds", "nan"],
        ["plan=x.yaml"],
        ["-o", "plan.txt"],
    ],
    ids=" ".join,
)
def test_words_that_mean_nothing(words, phantom, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = plan([str(phantom), *words])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert not list(tmp_path.iterdir())


def test_a_precision_that_this_machine_lacks_is_not_timed(phantom, tmp_path) -> None:
    words = ["trainer.precision=fp16", "trainer.device=cpu", f"data.cache={tmp_path}/cache"]
    assert plan([str(phantom), *words, "--memory", "8", "-o", str(tmp_path / "p.yaml")]) == 4
    assert not (tmp_path / "p.yaml").exists()


def test_no_dataset(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert plan([str(tmp_path / "empty")]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize("size", [(1, 24, 32), (24, 32, 1), (4, 5, 6)], ids=str)
def test_slices_and_specks(size, tmp_path, monkeypatch) -> None:
    """Volumes of one slice are planned in 2-D, however small they are."""
    monkeypatch.chdir(tmp_path)
    names = ["one", "two", "three"]
    for name in names:
        voxels = np.random.default_rng(len(name)).normal(size=size)
        image = nib.Nifti1Image(voxels.astype(np.float32), np.eye(4))
        label = nib.Nifti1Image((voxels > 1).astype(np.uint8), np.eye(4))
        write_case(tmp_path / "data", name, image=image, label=label)
    about = dict.fromkeys(("name", "description", "reference", "licence"), "x")
    write_description(
        tmp_path / "data", modalities=["MR"], classes=["spot"], case_ids=names, **about
    )
    words = ["--memory", "8", "--step-seconds", "inf", "data.cache=cache", "-o", "plan.yaml"]
    assert plan(["data", *words]) == 0
    data = composed("train", "plan=plan.yaml")["data"]
    assert data["spatial_dims"] == len(data["patch_size"]) == 3 - (1 in size)
    if 1 in size:
        assert (data["slice_axis"], data["patch_size"]) == (size.index(1), [24, 32])
    assert yaml.safe_load(Path("plan.yaml").read_text())["planned"]["made_for"]["memory_gb"] == 8
    assert data["crop"] is None


@pytest.mark.parametrize("given", [[], ["data.crop=null"]])
def test_volumes_that_are_mostly_0_are_cropped(given, tmp_path) -> None:
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        voxels = np.pad(rng.normal(5, 1, (24, 24, 24)), 4).astype(np.float32)  # 42 % is left
        image, label = (nib.Nifti1Image(a, np.eye(4)) for a in (voxels, np.uint8(voxels > 6)))
        write_case(tmp_path / "data", name, image=image, label=label)
    about = dict.fromkeys(("name", "description", "reference", "licence"), "x")
    write_description(
        tmp_path / "data", modalities=["MR"], classes=["spot"], case_ids=["one", "two"], **about
    )
    words = ["--nnunet", f"data.cache={tmp_path}", "-o", str(tmp_path / "plan.yaml"), *given]
    assert plan([str(tmp_path / "data"), *words]) == 0
    data = composed("train", f"plan={tmp_path}/plan.yaml")["data"]
    assert data["crop"] == (None if given else "nonzero")
    assert data["intensity"]["nonzero"]
