"""`medseg ablate` as a user meets it: a grid is run, stopped, continued, changed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests_support import arguments

from medseg.cli.ablate import main
from medseg.record import AblationPlan, RunRecord

UPSAMPLE = "upsample@model.decoder.upsample"
TWO = f"{UPSAMPLE}=transposed,bilinear"


def ablate(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> int:
    names = [word for word in words if "=" not in word]
    overrides = [word for word in words if "=" in word]
    return main([*names, *arguments(folder, "name=grid", "trainer.epochs=1", *overrides)])


def records(folder: Path) -> dict[str, RunRecord]:
    return {p.parent.name: RunRecord.read(p) for p in sorted(folder.rglob("record.json"))}


def plan(folder: Path) -> AblationPlan:
    return AblationPlan.read(folder / "runs/grid/ablation.json")


def start(folder: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "medseg", "ablate", *words, *arguments(folder, "name=grid")]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen, folder: Path, pattern: str, count: int = 1) -> None:
    deadline = time.monotonic() + 180
    while len(list(folder.rglob(pattern))) < count:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"no {pattern}: {process.communicate()[1]}")
        time.sleep(0.05)


def test_a_grid_is_run_once_and_its_runs_are_known_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate(monkeypatch, tmp_path, TWO, "seed=0,1") == 0
    done = records(tmp_path)
    assert len(done) == 4
    assert {(r.levels["decoder.upsample"], r.seed) for r in done.values()} == {
        (up, seed) for up in ("transposed", "bilinear") for seed in (0, 1)
    }
    assert {c.folder: c.digest for c in plan(tmp_path).cells} == {
        name: record.digest for name, record in done.items()
    }
    # every seed holds out the same cases
    assert len({tuple(record.split["validation"]) for record in done.values()}) == 1
    written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("record.json")}
    assert ablate(monkeypatch, tmp_path, TWO, "seed=0,1") == 0
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("record.json")} == written
    # more seeds are more runs, a changed value is another arm; what was done stays
    assert ablate(monkeypatch, tmp_path, TWO, "seed=0,1,2") == 0
    assert len(records(tmp_path)) == 6
    assert ablate(monkeypatch, tmp_path, TWO, "seed=0", "optimizer.lr=0.01") == 0
    assert len(records(tmp_path)) == 8
    assert written.items() <= {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.json")}.items()
    capsys.readouterr()
    assert main(["status", str(tmp_path / "runs/grid")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "grid: 2 runs: 2 completed",
        "nothing is left to do",
    ]


def test_a_preset_is_narrowed_by_the_keys_of_its_factors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ["conv_upsample", "conv@model.encoder.conv=dilated", f"{UPSAMPLE}=bilinear"]
    assert ablate(monkeypatch, tmp_path, *one, "ablation.seeds=[3]") == 0
    (record,) = records(tmp_path).values()
    assert record.levels == {"convolution": "dilated", "upsampling": "bilinear"}
    assert record.choices["decoder.conv"] == "dilated"
    assert record.blocks["decoder.conv"] == record.blocks["encoder.conv"]
    assert record.seed == 3
    assert plan(tmp_path).reference == record.levels


def test_a_failing_arm_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grouped = ["conv@model.encoder.conv=grouped", "model.encoder.conv.groups=3,2"]
    assert ablate(monkeypatch, tmp_path, *grouped) == 2
    assert {r.status: r.exit_code for r in records(tmp_path).values()} == {
        "failed": 2,
        "completed": 0,
    }
    assert "1 of 2 runs" in capsys.readouterr().err
    assert main(["status", str(tmp_path / "runs/grid")]) == 0
    shown = capsys.readouterr().out
    assert "1 failed" in shown
    assert "groups=3 must divide" in shown


def test_folds_hold_out_every_case_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ablate(monkeypatch, tmp_path, "ablation.folds=3") == 0
    found = list(records(tmp_path).values())
    assert sorted(r.fold for r in found if r.fold is not None) == [0, 1, 2]
    held_out = [case for record in found for case in record.split["validation"]]
    assert len(held_out) == len(set(held_out))
    assert set(held_out) == {*found[0].split["train"], *found[0].split["validation"]}


def test_one_fold_may_be_trained_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ablate(monkeypatch, tmp_path, TWO, "data.folds=3", "data.fold=1") == 0
    found = list(records(tmp_path).values())
    assert [record.fold for record in found] == [1, 1]
    ((train, validation),) = {tuple(map(tuple, record.split.values())) for record in found}
    assert len(validation) in (len(train) // 2, len(train) // 2 + 1)  # a third of all


def test_arms_are_made_equal_and_say_in_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convs = "conv@model.encoder.conv=standard,grouped"
    wide = ["model.encoder.channels=[8,16]", "model.encoder.conv.groups=2"]
    assert ablate(monkeypatch, tmp_path, convs, "ablation.equal=parameters", *wide[:1]) == 0
    by_level = {r.levels["encoder.conv"]: r for r in records(tmp_path).values()}
    standard, grouped = by_level["standard"], by_level["grouped"]
    assert standard.matched is None
    assert grouped.matched is not None
    assert grouped.matched.wanted == standard.parameters
    assert grouped.matched.value == grouped.parameters
    assert grouped.parameters == pytest.approx(standard.parameters, rel=0.15)  # of so few channels
    assert plan(tmp_path).equal == "parameters"


def test_a_time_budget_ends_every_run_after_that_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ablate(monkeypatch, tmp_path, TWO, "trainer.max_seconds=1") == 0
    assert plan(tmp_path).budget == "seconds"
    for record in records(tmp_path).values():
        assert record.status == "completed"
        assert record.history[-1]["val_dice"] is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["typo"], "typo"),
        (["ablation.seeds=[0,0]"], "each once"),
        (["ablation.seeds=none"], "list of whole numbers"),
        (["+ablation.reference.up=x"], "no level of this grid"),
        (["+ablation.factors.up=3"], "ablation.factors.up=3 must be"),
        (["+ablation.factors.up=a b"], "ablation.factors.up='a b' must be"),
        ([TWO, "ablation.equal=beauty"], "ablation.equal='beauty'"),
        (["ablation.margin=0"], "ablation.margin=0"),
        (["+ablation.factors.up=up"], "ablation.factors.up='up' must be"),
        (["data.fold=0,1"], "ablation.folds=5"),
        (["ablation.folds=3", "data.fold=1"], "give one of the two"),
        (["optimizer.lr=interval(0,1)"], "list them as a,b,c"),
    ],
)
def test_a_grid_that_means_nothing_is_refused_before_anything_is_done(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert ablate(monkeypatch, tmp_path, *words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert len(shown.splitlines()) == 1
    assert message in shown
    assert not records(tmp_path)


def test_data_that_are_not_there_stop_an_ablation_before_its_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert ablate(monkeypatch, tmp_path, TWO, "data=folder", f"data.root={tmp_path}/empty") in (
        2,
        3,
    )
    assert str(tmp_path / "empty") in capsys.readouterr().err
    assert not records(tmp_path)


def test_the_status_of_no_ablation_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(tmp_path)]) == 3
    assert "no ablation.json is there" in capsys.readouterr().err


def test_a_signal_leaves_the_whole_ablation_and_the_command_continues_it(tmp_path: Path) -> None:
    words = [TWO, "trainer.epochs=60"]
    process = start(tmp_path, *words)
    wait_for(process, tmp_path, "last.ckpt")
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130, shown
    assert [r.status for r in records(tmp_path).values()] == ["interrupted"]
    again = start(tmp_path, *words)
    _, shown = again.communicate(timeout=300)
    assert again.returncode == 0, shown
    assert sorted(r.restarts for r in records(tmp_path).values()) == [0, 1]


def test_workers_side_by_side_survive_the_loss_of_one(tmp_path: Path) -> None:
    words = [TWO, "trainer.epochs=40", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    process = start(tmp_path, *words)
    wait_for(process, tmp_path, "last.ckpt", count=2)
    assert len(records(tmp_path)) == 2
    victims = [
        int((p.parent / "status.json").read_text().split('"process": ')[1].split(",")[0])
        for p in tmp_path.rglob("record.json")
    ]
    assert process.pid not in victims
    subprocess.run(["kill", "-9", str(victims[0])], check=True)
    _, shown = process.communicate(timeout=300)
    assert process.returncode == 0, shown
    found = records(tmp_path).values()
    assert [r.status for r in found] == ["completed", "completed"]
    assert max(r.restarts for r in found) == 1
