"""What the README prints is true: commands, options, code."""

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose
from omegaconf import OmegaConf

from medseg.blocks import conv
from medseg.cli import ablate
from medseg.cli.compose import hydra_session
from medseg.cli.operators import main as operators

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands_of(text: str) -> list[str]:
    return [
        line.split("  #")[0].strip()
        for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
        for line in block.splitlines()
        if line.strip()
    ]


COMMANDS = commands_of(README)
ABLATIONS = commands_of((ROOT / "docs/ablation.md").read_text(encoding="utf-8"))
INLINE = re.findall(r"`(medseg [^`]+)`", README)
GROUPS = ["conv", "downsample", "upsample", "unit", "skip", "norm", "activation", "size"]


def options(group: str) -> set[str]:
    return {path.stem for path in (ROOT / "configs" / group).glob("*.yaml")}


def compose_overrides(words: list[str]) -> None:
    flags = {"--multirun", "-m", "--cfg", "job"}
    # of a grid, its first cell
    overrides = [
        word if "[" in word else re.sub(r"=([^,]+),.*", r"=\1", word)
        for word in words
        if word not in flags and not word.startswith("resume=")
    ]
    with hydra_session():
        known = ["data.in_channels=1", "data.num_classes=3"]  # of one's own folder, unknown here
        config = compose("train", overrides=[*overrides, *known])
    OmegaConf.to_container(config.model, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("command", [c for c in [*COMMANDS, *INLINE] if "medseg train" in c])
def test_every_training_command_composes(command: str) -> None:
    compose_overrides(shlex.split(command)[2:])


@pytest.mark.parametrize(
    "command", [c for c in [*COMMANDS, *INLINE, *ABLATIONS] if "medseg ablate" in c]
)
def test_every_ablation_command_composes(command: str) -> None:
    _, _, *words = shlex.split(command)
    if words[:1] == ["status"]:
        assert ablate._status_parser().parse_args(words[1:]).folder
    elif words:
        compose_overrides(ablate.named(words))


@pytest.mark.parametrize(
    "command",
    [c for c in COMMANDS if c.startswith("medseg ") and c.split()[1] not in ("train", "ablate")],
)
def test_every_other_command_is_understood(command: str) -> None:
    _, name, *words = shlex.split(command)
    door = importlib.import_module(f"medseg.cli.{name}")
    arguments = door._parser().parse_args(words)
    compose_overrides(getattr(arguments, "overrides", []))


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_every_make_target_exists(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"\n{command.split()[1]}:" in makefile


@pytest.mark.parametrize("row", re.findall(r"^\|.*@model\..*\|$", README, flags=re.MULTILINE))
def test_the_swap_table_is_the_configuration(row: str) -> None:
    _, _, listed, overrides, _ = row.split("|")
    examples = re.findall(r"`([^`]+)`", overrides)
    group = examples[0].split("@")[0]
    assert set(re.findall(r"`([^`]+)`", listed)) == options(group)
    compose_overrides(examples)


def test_the_swap_table_has_every_slot() -> None:
    assert set(re.findall(r"`(\w+)@model", README)) == set(GROUPS)


def test_the_table_of_operators_is_what_the_code_says(capsys: pytest.CaptureFixture) -> None:
    assert operators([]) == 0
    table = capsys.readouterr().out
    page = (ROOT / "docs" / "arithmetic.md").read_text(encoding="utf-8")
    assert f"<!-- operators -->\n{table}<!-- /operators -->" in page
    listed = set(re.findall(r"^\| (\w+) \| `(\w+)` \|", table, flags=re.MULTILINE))
    slots = ("conv", "downsample", "unit", "upsample")
    assert listed == {(slot, option) for slot in slots for option in options(slot)}


def test_every_network_is_named() -> None:
    named = README[README.index("Networks, `model=") : README.index("One stage alone")]
    assert set(re.findall(r"`(\w+)`", named)) == options("model")


def test_the_python_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["net"](torch.zeros(1, 1, 17, 18, 19)).shape == (1, 3, 17, 18, 19)


def test_the_block_of_the_how_to_obeys_its_contract() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to.md").read_text("utf-8"), re.S)
    names = dict(vars(conv))
    exec(code, names)
    for dims in (2, 3):
        image = torch.zeros(1, 2, *(5, 6, 7)[:dims])
        assert names["Averaged"]()(dims, 2, 4)(image).shape == (1, 4, *image.shape[2:])


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_linked_file_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert "://" in target or (page.parent / target).exists(), target
