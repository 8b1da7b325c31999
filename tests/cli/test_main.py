"""The command `medseg`: its subcommands, their help, and a closed pipe."""

import subprocess
import sys
from pathlib import Path

import pytest

from medseg import cli

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
def test_commands_are_listed(words, code, said) -> None:
    done = subprocess.run([*MEDSEG, *words], capture_output=True, text=True)
    assert done.returncode == code
    assert said in done.stderr
    assert "audit" in done.stdout + done.stderr


MODULES = {p.stem: p.read_text(encoding="utf-8") for p in Path(cli.__file__).parent.glob("*.py")}
COMMANDS = {name for name, code in MODULES.items() if "\ndef main(" in code} - {"main"}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself_without_slow_imports(command: str) -> None:
    script = (
        "import sys\n"
        f"from medseg.cli.{command} import main\n"
        "try:\n"
        "    code = main(['--help'])\n"
        "except SystemExit as leaving:\n"
        "    code = leaving.code\n"
        "slow = ('torch', 'monai', 'pytorch_lightning', 'matplotlib', 'pandas', 'nibabel')\n"
        "print(code, [name for name in slow if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    *text, found = done.stdout.splitlines()
    assert found == "0 []", done.stderr
    assert text


def test_every_command_is_listed() -> None:
    shown = subprocess.run([*MEDSEG, "--help"], capture_output=True, text=True).stdout
    assert {line.split()[0] for line in shown.splitlines() if line.startswith("  ")} >= COMMANDS
