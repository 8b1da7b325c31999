"""`medseg report` and `scripts/report.py` from outside."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.cli.report import main

from .records import simple

pytestmark = pytest.mark.usefixtures("without_figures")
ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "monai", "hydra", "omegaconf", "pytorch_lightning", "lightning")


def modules_after(code: str, *options: str, **environment: str) -> tuple[set[str], str]:
    """Packages that Python has loaded after some code, and what that printed."""
    tail = "\nimport sys; print('\\n'.join(sys.modules), file=sys.stderr)"
    command = [sys.executable, *options, "-c", code + tail]
    environment = {"PATH": "", **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return {name.split(".")[0] for name in done.stderr.split()}, done.stdout


def test_it_writes_and_says_where(
    ablation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ablation / "foreign").mkdir()
    (ablation / "foreign" / "record.json").write_text("{}")
    markup = ablation / "004/record.json"
    markup.write_text(markup.read_text().replace('"ablation_upsample"', '"[bold]a[/red]"'))
    target = tmp_path / "x.html"
    assert main([str(ablation), "-o", str(target), "--pdf"]) == 0
    shown = capsys.readouterr()
    for name in ("x.html", "x.md", "x.csv", "x_comparisons.csv", "x.tex"):
        path = str(target.with_name(name))
        assert path in shown.out
        assert Path(path).is_file()
    for word in ("trilinear", "0.866 ± 0.017", "Verdict", "reference", "undecided"):
        assert word in shown.out
    assert "[bold]a[/red]" in shown.out.replace("\n", "")
    pdf, warning = shown.err.splitlines()
    assert "print" in pdf
    assert warning.startswith(f"warning: {ablation}/foreign/record.json: schema=None")


def test_reference_and_margin_are_the_reader_s(
    ablation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "x.html"
    wide = ["--reference", "trilinear", "--margin", "0.9"]
    assert main([str(ablation), "-o", str(target), *wide]) == 0
    shown = capsys.readouterr().out
    assert shown.count("equal") == 1  # the third arm has one seed alone
    text = target.with_suffix(".md").read_text()
    assert "Every arm minus trilinear (as asked for)" in text
    assert "one seed of the arm" in text
    assert main([str(ablation), "-o", str(target), "--reference", "bicubic"]) == 2
    assert "reference=bicubic: no arm has that label or number" in capsys.readouterr().err
    assert main([str(ablation), "-o", str(target), "--margin", "-0.1"]) == 2
    assert "margin -0.1" in capsys.readouterr().err


def test_errors_are_one_line_and_a_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "-o", str(tmp_path / "x.html")]) == 3
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: no record.json in there; give the folder that training wrote to\n"
    )
    assert main([str(tmp_path), "-o", "x.pdf"]) == 2
    for wrong in ([], [str(tmp_path), "--colour"]):
        with pytest.raises(SystemExit) as stop:
            main(wrong)
        assert stop.value.code == 2


def test_help_imports_nothing_heavy() -> None:
    code = "from medseg.cli.report import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    loaded, _ = modules_after(code)
    assert "argparse" in loaded
    assert not loaded & {"pandas", "numpy", "matplotlib", "jinja2", "rich", *HEAVY}


def test_the_script_is_the_same_command_without_deep_learning_on_an_ascii_terminal(
    runs: Callable[..., Path], tmp_path: Path
) -> None:
    folder, target = runs(simple({"a": 0.5, "b": 0.6})), tmp_path / "x.html"
    script = str(ROOT / "scripts/report.py")
    code = (
        f"import runpy, sys\nsys.argv = {[script, str(folder), '-o', str(target)]!r}\n"
        f"try: runpy.run_path({script!r}, run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code"
    )
    loaded, shown = modules_after(code, "-W", "error", PYTHONIOENCODING="ascii")
    assert "pandas" in loaded
    assert not loaded & set(HEAVY)
    assert "0.550 ? 0.071" in shown
