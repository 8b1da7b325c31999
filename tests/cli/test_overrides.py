"""What is typed: values literally, wrong words answered with the right one, keys without effect."""

from itertools import cycle
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from tests_support import train

from medseg.cli.compose import composed, option_names
from medseg.cli.overrides import no_option, readable
from medseg.errors import ConfigError
from medseg.experiment.effects import require_effect
from medseg.experiment.schema import RULES, TEXTS
from medseg.suggestion import suggestion

NAMES = {
    "umlaut": "umläut",
    "CJK": "数据",
    "parentheses": "Uni (1)",
    "comma": "a,b",
    "equals": "x=y",
    "hash": "q#1",
    "apostrophe": "St. Mary's",
    "quotes": 'the "old" one',
    "brackets": "[a]",
    "braces": "{a}",
    "colon": "C:/data",
    "backslash": r"C:\data\new",
    "trailing backslash": "C:\\",
    "percent and dollar": "100% $USER",
    "blank": "my data",
    "star": "*",
    "digits": "007",
    "number": "1e3",
    "word of YAML": "true",
    "semicolon and bar": "a;b|c&d",
    "emoji": "🧠",
    "choice of Hydra": "choice(a,b)",
}
PATTERNS = [r"(c\d+)", r"(p\d{1,3})_", r"^(?:a|b)-([0-9]+)$", r"([^_]+)_", r"(\w+?)\s"]


def parsed(word: str, **how: bool):
    (text,) = readable([word], **how)
    return OverridesParser.create().parse_override(text).value()


PATHS = ("data.root", "data.split_file", "runs", "hydra.run.dir", "name")


@pytest.mark.parametrize(("kind", "key"), [*zip(NAMES, cycle(PATHS), strict=False)])
def test_a_path_means_what_is_typed(kind: str, key: str) -> None:
    assert parsed(f"{key}={NAMES[kind]}") == NAMES[kind]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_regular_expression_means_what_is_typed(pattern: str) -> None:
    assert parsed(f"data.patient={pattern}") == pattern


def test_what_is_typed_arrives(tmp_path: Path) -> None:
    words = [f"data.patient={PATTERNS[1]}", f"data.root={NAMES['parentheses']}", "name=007"]
    config = composed("train", *words)
    assert config["data"]["patient"] == PATTERNS[1]
    assert config["data"]["root"] == config["data"]["source"]["root"] == NAMES["parentheses"]
    assert config["name"] == "007"


@given(
    st.sampled_from(TEXTS),
    st.text(min_size=1).filter(lambda text: text[0] not in "'\"" and text != "null"),
)
def test_any_text_means_what_is_typed(key: str, text: str) -> None:
    assert parsed(f"{key}={text}") == text


def test_quotes_of_hydra_s_grammar_still_mean_the_same() -> None:
    assert parsed("data.root='my (own) data'") == parsed('data.root="my (own) data"')
    assert parsed("data.root='my (own) data'") == "my (own) data"
    assert parsed("data.patient=null") is None


def test_a_comma_lists_paths_where_several_values_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "one, two").mkdir()
    (text,) = readable([f"data.root={tmp_path}/one, two/data"], several=True)
    assert not OverridesParser.create().parse_override(text).is_sweep_override()
    (text,) = readable(["data.root=a,b"], several=True)
    assert OverridesParser.create().parse_override(text).is_sweep_override()
    (text,) = readable([r"data.patient=(c\d{1,2})"], several=True)
    assert not OverridesParser.create().parse_override(text).is_sweep_override()


WRONG = {
    "a key's end": (["trainer.epoch=3"], "trainer.epochs"),
    "a key below a block": (["model.encoder.chanels=[8,16]"], "model.encoder.channels"),
    "an added section": (["+training.epochs=3"], "trainer.epochs"),
    "a block's own option": (["+model.encoder.conv.kernel=5"], "kernel_size"),
    "a group": (["cnv@model.encoder.conv=dilated"], "conv"),
    "a group without its place": (["conv=dilated"], "conv@model.encoder.conv"),
    "an option among several": (["conv@model.encoder.conv=dilatd,standard", "-m"], "dilated"),
    "a device": (["trainer.device=cude"], "cuda"),
    "no equals sign": (["trainer.epochs"], "trainer.epochs="),
}
INERT = {
    "a key": (["data.fold=2"], "data.folds"),
    "a key of another option": (["augmentation=none", "augmentation.rotation=90"], "rotation"),
    "an ablation's key": (["ablation.folds=5"], "ablate"),
    "a launcher": (["hydra/launcher=joblib"], "ablate"),
    "two places for a run": (["runs=x", "hydra.run.dir=y"], "hydra.run.dir"),
    "two places for several": (
        ["seed=0,1", "-m", "runs=x", "hydra.sweep.dir=y"],
        "hydra.sweep.dir",
    ),
    "a root that the source does not take": (["data.root=x", "data.source.root=y"], "data.root"),
    "a run's folder of several": (["seed=0,1", "-m", "hydra.run.dir=x"], "hydra.sweep.dir"),
    "what a plan was made from": (["planned=null"], "plan="),
    "seeds twice": (["seed=0,1", "-m", "ablation.seeds=[3]"], "seed"),
    "a part of what is not printed": (["--package", "data"], "--cfg"),
}


@pytest.mark.parametrize(
    ("words", "meant"),
    [*WRONG.values(), *INERT.values()],
    ids=[*WRONG, *(f"without effect: {name}" for name in INERT)],
)
def test_a_wrong_word_is_answered_with_the_right_one(
    words: list[str], meant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert meant in line
    assert not list(tmp_path.iterdir())


MEANT = {
    "epochs": "trainer.epochs",
    "trainer.max_epochs": "trainer.epochs",
    "trainer.accelerator": "trainer.device",
    "learning_rate": "optimizer.lr",
    "batch_size": "data.batch_size",
    "data.patchsize": "data.patch_size",
    "training.patience": "trainer.patience",
    "num_worker": "data.num_workers",
}


@pytest.mark.parametrize(("word", "meant"), MEANT.items())
def test_a_key_that_is_close_or_of_another_tool_is_found(word: str, meant: str) -> None:
    assert meant in suggestion(word, RULES)


OPTIONS = {
    "trilinear": ("upsample", "bilinear"),
    "transpose": ("upsample", "transposed"),
    "hipocampus": ("data", "hippocampus"),
    "adam": ("optimizer", "adamw"),
    "dice": ("loss", "dice_ce"),
    "batchnorm": ("norm", "batch"),
    "leakyrelu": ("activation", "leaky_relu"),
    "res_unet": ("model", "resenc_unet"),
    "dilatd": ("conv", "dilated"),
}


@pytest.mark.parametrize("word", OPTIONS)
def test_an_option_that_is_close_is_found(word: str) -> None:
    group, meant = OPTIONS[word]
    told = no_option(word, option_names(group))
    assert meant in told.partition("options:")[0]
    assert all(option in told for option in option_names(group))


def test_what_is_off_asks_for_nothing() -> None:
    assert not composed("train", "data=phantom", "data.download=false")["data"]["download"]


@pytest.mark.parametrize("data", ["mni152", "hippocampus"])
def test_a_dataset_of_one_s_own_is_not_taken_for_a_place_to_write(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/dataset.json").write_text("{}", encoding="utf-8")
    from medseg.cli.train import main

    assert main([f"data={data}", f"data.root={tmp_path}/mine", f"runs={tmp_path}/runs"]) == 2
    assert "data=folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["dataset.json"]


def test_an_ablation_may_give_what_only_some_arms_use() -> None:
    flat, deep = (composed("train", f"data={data}") for data in ("mni152", "phantom"))
    require_effect({"data.slice_axis": 0}, [flat, deep])
    with pytest.raises(ConfigError, match="slice_axis"):
        require_effect({"data.slice_axis": 0}, [deep])


def test_what_is_composed_leaves_nothing_behind(tmp_path: Path) -> None:
    before = composed("train")
    before["trainer"]["epochs"] = "changed"
    assert composed("train", "seed=1")["trainer"]["epochs"] != "changed"
    own = tmp_path / "loss/mine.yaml"
    own.parent.mkdir()
    for weight in (0.5, 2.0):  # a file of one's own is read anew, whatever was read before
        own.write_text(f"_target_: monai.losses.DiceCELoss\nlambda_ce: {weight}\n")
        config = composed("train", f"hydra.searchpath=[file://{tmp_path}]", "loss=mine")
        assert config["loss"]["lambda_ce"] == weight
