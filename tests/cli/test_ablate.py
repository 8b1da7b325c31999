"""`medseg ablate` as a user meets it: a grid is run, stopped, continued, changed."""

import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests_support import QUICK, arguments, resume, when

from medseg.analysis.cost import count_parameters
from medseg.cli import launch
from medseg.cli.ablate import main
from medseg.cli.compose import composed
from medseg.cli.plan import main as make_plan
from medseg.experiment.plan import make_data
from medseg.models.description import build_network, describe
from medseg.record import AblationPlan, RunRecord
from medseg.report.study import collect

UPSAMPLE = "upsample@model.decoder.upsample"
TWO = f"{UPSAMPLE}=transposed,bilinear"
PRESET = [
    "conv_upsample",
    "conv@model.encoder.conv=dilated",
    f"{UPSAMPLE}=transposed,bilinear",
    "loss.weight=null,[1]",  # the second cannot be trained: one number for three classes
    "ablation.seeds=[3]",
    "ablation.equal=parameters",
    "data.folds=3",
    "data.fold=1",
    "trainer.max_seconds=0.2",
    "trainer.epochs=1",
]


def ablate(folder: Path, *words: str) -> int:
    names = [word for word in words if "=" not in word]
    overrides = [word for word in words if "=" in word]
    return main([*names, *arguments(folder, "name=grid", "ablation.retries=0", *overrides)])


def records(folder: Path) -> dict[str, RunRecord]:
    return {p.parent.name: RunRecord.read(p) for p in sorted(folder.rglob("record.json"))}


def plan(folder: Path) -> AblationPlan:
    return AblationPlan.read(folder / "runs/grid/ablation.json")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ablation of four arms, two of which cannot be trained."""
    folder = tmp_path_factory.mktemp("ablation")
    assert ablate(folder, *PRESET) == 2
    return folder


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of runs that a command launches; none of them is trained."""
    folders: list[str] = []

    def note(_hydra: object, _config: object, jobs: Sequence[Sequence[str]]) -> None:
        folders.extend(job[-1].partition("=")[2] for job in jobs)

    monkeypatch.setattr(launch, "launch", note)
    return folders


def test_runs_are_known_by_content_and_a_preset_is_narrowed_by_its_keys(done: Path) -> None:
    found = records(done)
    assert {c.folder: c.digest for c in plan(done).cells} == {n: r.digest for n, r in found.items()}
    assert {tuple(record.levels.items()) for record in found.values()} == {
        (("convolution", "dilated"), ("upsampling", upsampling), ("loss.weight", weight))
        for upsampling in ("transposed", "bilinear")
        for weight in ("null", "[1]")
    }
    assert {record.seed for record in found.values()} == {3}
    for record in found.values():
        assert record.choices["encoder.conv"] == record.choices["decoder.conv"] == "dilated"
        assert record.choices["decoder.upsample"] == record.levels["upsampling"]


def test_the_reference_is_the_first_level_and_the_others_are_made_equal_to_it(done: Path) -> None:
    found = {record.levels["upsampling"]: record for record in records(done).values()}
    assert plan(done).reference["upsampling"] == "transposed"
    matched = [cell.matched for cell in plan(done).cells]
    assert matched.count(None) == 1
    for cell in plan(done).cells:
        if cell.matched:
            network = build_network(describe(composed("train", *cell.overrides)["model"]))
            assert cell.matched.value == count_parameters(network)
            assert cell.matched.value == pytest.approx(
                cell.matched.wanted, rel=0.15
            )  # few channels
    assert found["bilinear"].matched in matched


def test_a_failing_arm_is_named_and_the_others_go_on(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = sorted((r.levels["loss.weight"], r.status, r.exit_code) for r in records(done).values())
    assert ends == [("[1]", "failed", 2)] * 2 + [("null", "completed", 0)] * 2
    assert main(["status", str(done / "runs/grid")]) == 0
    shown = capsys.readouterr().out
    assert "4 runs: 2 completed, 2 failed" in shown
    assert "nothing is left to do" not in shown
    assert shown.count("loss.weight=[1]") >= 2


def test_a_time_budget_and_one_fold_hold_for_every_run(done: Path) -> None:
    assert plan(done).budget == "seconds"
    completed = [record for record in records(done).values() if record.status == "completed"]
    assert len({tuple(record.split["validation"]) for record in completed}) == 1
    for record in completed:
        assert record.fold == 1
        train, validation = (len(record.split[part]) for part in ("train", "validation"))
        assert validation in (train // 2, train // 2 + 1)  # a third of all
        assert record.history[-1]["val_dice"] is not None


def test_repeating_the_command_launches_what_has_no_result(
    done: Path, launched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = plan(done)
    failed = {name for name, record in records(done).items() if record.status == "failed"}
    # a further seed is further runs, another value another arm
    assert ablate(done, *PRESET, "ablation.seeds=[3,4]") == 2
    assert sum("seed4" in name for name in launched) == 4
    assert {name for name in launched if "seed3" in name} == failed
    launched.clear()
    assert ablate(done, *PRESET, "loss=dice_focal") == 1
    assert len(launched) == 4
    assert not set(launched) & set(records(done))
    launched.clear()
    capsys.readouterr()
    assert ablate(done, *PRESET) == 2  # as it was
    assert set(launched) == failed
    assert plan(done).cells == before.cells
    assert capsys.readouterr().out.count("] failed: ") == 2


@pytest.mark.parametrize("word", ["artifacts.shifts=2", "pictures.cases=2"])
def test_completed_runs_that_were_measured_otherwise_are_not_mixed_with_new_ones(
    done: Path, launched: list[str], capsys: pytest.CaptureFixture[str], word: str
) -> None:
    before = plan(done)
    assert ablate(done, *PRESET, "ablation.seeds=[3,4]", word) == 2
    assert word.partition("=")[0] in capsys.readouterr().err
    assert plan(done) == before
    assert not launched


def test_runs_on_other_files_stay_beside_and_are_no_part_of_the_ablation(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = Path(shutil.copytree(phantom, tmp_path / "mine"))
    grid = ["data=folder", "plan=none", "data.patch_size=[16,16,16]", *QUICK, "trainer.epochs=1"]
    assert ablate(tmp_path, *grid, f"data.root={mine}", "seed=0,1") == 0
    former = records(tmp_path)
    moved = Path(shutil.copytree(mine, tmp_path / "moved"))
    described = (moved / "dataset.json").read_text()
    content = json.loads(described)
    content["labels"] = {value: f"{name} now" for value, name in content["labels"].items()}
    (moved / "dataset.json").write_text(json.dumps(content))
    assert ablate(tmp_path, *grid, f"data.root={moved}", "seed=0,1,2") == 3
    assert records(tmp_path).keys() == former.keys()
    (moved / "dataset.json").write_text(described)
    (run,) = [tmp_path / "runs/grid" / name for name, r in former.items() if r.seed == 1]
    assert resume(run, "trainer.epochs=2") == 0  # by hand: no longer what the grid asks for
    assert ablate(tmp_path, *grid, f"data.root={moved}", "seed=0,1") == 2
    assert records(tmp_path).keys() == former.keys()
    assert RunRecord.read(run / "record.json").config["trainer"]["epochs"] == 2
    label = min((moved / "labelsTr").iterdir())
    image = nib.load(label)
    nib.save(nib.Nifti1Image(np.minimum(image.dataobj, 1), image.affine, image.header), label)
    capsys.readouterr()
    assert ablate(tmp_path, *grid, f"data.root={moved}", "seed=0,1") == 0
    assert "2 of its runs" in capsys.readouterr().out
    found = records(tmp_path)
    assert {name: found[name].seed for name in found.keys() & former.keys()} == {
        name: record.seed for name, record in former.items()
    }
    cells = {cell.folder for cell in plan(tmp_path).cells}
    assert len(cells) == 2
    assert not cells & former.keys()
    assert {found[name].status for name in cells} == {"completed"}
    data = collect([tmp_path / "runs"])
    assert len({arm.dataset for arm in data.arms}) == 2
    assert data.changed
    assert not data.missing


def test_folds_hold_out_every_case_once(tmp_path: Path, launched: list[str]) -> None:
    assert ablate(tmp_path, "ablation.folds=3", "ablation.retries=1") == 1
    held_out: list[str] = []
    for fold, cell in enumerate(plan(tmp_path).cells):
        assert cell.fold == fold
        data = make_data(composed("train", *cell.overrides))
        data.setup()
        assert data.split is not None
        held_out += data.split.validation
    assert launched == [cell.folder for cell in plan(tmp_path).cells] * 2  # tried once more
    assert sorted(held_out) == sorted({*data.split.train, *data.split.validation})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["typo"], "typo"),
        (["ablation.seeds=[0,0]"], "ablation.seeds="),
        (["ablation.seeds=none"], "ablation.seeds="),
        (["ablation.folds=x"], "ablation.folds="),
        (["~ablation.folds"], "ablation.folds"),
        (["+ablation.reference.up=x"], "no level of this grid"),
        (["+ablation.factors.up=3"], "ablation.factors.up=3 must be"),
        (["+ablation.factors.up=a b"], "ablation.factors.up='a b' must be"),
        (["loss=dice_ce,dice_ce"], "each once"),
        ([TWO, "ablation.equal=beauty"], "ablation.equal='beauty'"),
        (["ablation.margin=0"], "ablation.margin=0"),
        (["ablation.folds=3", "data.fold=1"], "give one of them"),
        (["optimizer.lr=interval(0,1)"], "list them as a,b,c"),
        (["resume=somewhere"], "continued by repeating its command"),
    ],
)
def test_a_grid_that_means_nothing_is_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert ablate(tmp_path, *words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert len(shown.splitlines()) == 1
    assert message in shown
    assert not list(tmp_path.iterdir())


def test_data_that_are_not_there_stop_an_ablation_before_its_first_run(
    tmp_path: Path, launched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert ablate(tmp_path, TWO, "data=folder", f"data.root={empty}") in (2, 3)
    assert str(empty) in capsys.readouterr().err
    assert not launched


def test_the_status_of_no_ablation_is_refused(tmp_path: Path) -> None:
    assert main(["status", str(tmp_path)]) == 3


LONG = [TWO, "trainer.epochs=8", "trainer.validate_every=8", "artifacts.follow=false"]


def test_a_signal_leaves_the_whole_ablation_and_the_command_continues_it(tmp_path: Path) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    when(lambda: list(tmp_path.rglob("last.ckpt")), interrupt)
    with pytest.raises(SystemExit) as end:
        ablate(tmp_path, *LONG)
    assert end.value.code == 130
    assert [r.status for r in records(tmp_path).values()] == ["interrupted"]
    assert ablate(tmp_path, *LONG) == 0
    assert sorted(r.restarts for r in records(tmp_path).values()) == [0, 1]


def test_workers_side_by_side_survive_the_loss_of_one(phantom: Path, tmp_path: Path) -> None:
    """With a plan, below a folder whose name has all that a path may have."""
    folder = tmp_path / "größe 1, [zwei]=#3"
    folder.mkdir()
    file = folder / "plan, 1.yaml"
    assert make_plan([str(phantom), "--nnunet", "-o", str(file), f"data.cache={tmp_path}"]) == 0
    workers: list[int] = []

    def lose_one() -> None:
        for path in folder.rglob("status.json"):
            workers.append(json.loads(path.read_text())["process"])
        os.kill(workers[0], signal.SIGKILL)

    when(lambda: len(list(folder.rglob("last.ckpt"))) == 2, lose_one)
    side_by_side = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert ablate(folder, f"plan={file}", *LONG, *side_by_side) == 1
    assert len(workers) == 2
    assert os.getpid() not in workers
    assert ablate(folder, f"plan={file}", *LONG) == 0
    found = records(folder).values()
    assert {r.config["planned"]["text"] for r in found} == {file.read_text()}
    assert [r.status for r in found] == ["completed", "completed"]
    assert max(r.restarts for r in found) == 1
