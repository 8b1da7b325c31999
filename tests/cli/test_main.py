"""The command `medseg`: its subcommands, their help, and a closed pipe."""

import subprocess
import sys
from pathlib import Path

import pytest

from medseg import cli
from medseg.cli.main import main

MEDSEG = [sys.executable, "-m", "medseg.cli.main"]


def test_a_closed_pipe_is_no_fault() -> None:
    with subprocess.Popen(
        [*MEDSEG, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("words", "code", "said"), [([], 2, ""), (["--help"], 0, ""), (["fly"], 2, "no command 'fly'")]
)
def test_commands_are_listed(
    words: list[str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["medseg", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == code
    shown = capsys.readouterr()
    assert said in shown.err
    if code == 0:
        rows = [line for line in shown.out.splitlines() if line.startswith("  ")]
        assert {row.split()[0] for row in rows} >= COMMANDS
    else:
        assert "audit" in shown.out + shown.err


MODULES = {p.stem: p.read_text(encoding="utf-8") for p in Path(cli.__file__).parent.glob("*.py")}
COMMANDS = {name for name, code in MODULES.items() if "\ndef main(" in code} - {"main"}
# in one process: what none has imported after the last, none imports
HELP = """
import importlib, sys
slow = ("torch", "monai", "pytorch_lightning", "matplotlib", "pandas", "nibabel")
for command in sys.argv[1:]:
    print(end=f"<{command}>")
    try:
        code = importlib.import_module(f"medseg.cli.{command}").main(["--help"])
    except SystemExit as leaving:
        code = leaving.code
    assert code == 0, (command, code)
    assert not [name for name in slow if name in sys.modules], command
"""


def test_every_command_explains_itself_without_slow_imports() -> None:
    command = [sys.executable, "-c", HELP, *sorted(COMMANDS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert done.stdout.split(f"<{name}>")[1].split("<")[0].strip(), name
