"""`medseg bench`: options in, two files out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main


def test_a_quick_benchmark_of_one_group_writes_both_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    argv = ["--quick", "--only", "downsamplings", "--dims", "2", "--device", "cpu"]
    assert main([*argv, "--output", str(tmp_path / "out")]) == 0
    progress, markdown, raw = capsys.readouterr().out.splitlines()
    assert progress.startswith("[1/1] downsamplings: 1 inputs, ")
    content = json.loads(Path(raw).read_text(encoding="utf-8"))
    assert content["command"].startswith("medseg bench --quick --only downsamplings --dims 2")
    assert content["quick"] is True
    assert [g["slug"] for g in content["groups"]] == ["downsamplings"]
    text = Path(markdown).read_text(encoding="utf-8")
    assert f"`{content['command']}`" in text
    assert "The figures mean nothing" in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--only", "speed"], "choose from"),
        (["--rounds", "0"], "0 must be at least 1"),
        (["--rounds", "many"], "many"),
        (["--dims", "4"], "choose from"),
    ],
)
def test_a_wrong_word_is_a_usage_error(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(argv)
    assert leaving.value.code == 2
    assert words in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    argv = ["--quick", "--only", "pairs", "--output", str(tmp_path / "file" / "out")]
    assert main(argv) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot write")


def test_help_lists_the_groups_without_slow_imports() -> None:
    script = (
        "import sys\n"
        "from benchmarks.__main__ import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "finally:\n"
        "    print([m for m in ('torch', 'monai', 'hydra') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    *text, imported = done.stdout.splitlines()
    assert (done.returncode, imported) == (0, "[]")
    for word in ("depthwise", "networks", "--rounds", "--quick", "--threads", "--output"):
        assert word in "\n".join(text)
