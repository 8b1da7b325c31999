"""The door itself: what is said of commands, and what happens when nobody listens any more."""

import subprocess
import sys

import pytest

DOOR = [sys.executable, "-m", "medseg.cli.main"]


def test_a_closed_pipe_is_no_fault() -> None:
    with subprocess.Popen(
        [*DOOR, "operators"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
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
    done = subprocess.run([*DOOR, *words], capture_output=True, text=True)
    assert done.returncode == code
    assert said in done.stderr
    assert "audit" in done.stdout + done.stderr
