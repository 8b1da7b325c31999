"""`medseg report` and `scripts/report.py` from outside."""

import subprocess
import sys
from pathlib import Path

import pytest

from medseg.cli.report import main

pytestmark = pytest.mark.usefixtures("without_figures")
ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "monai", "hydra", "omegaconf", "pytorch_lightning", "lightning")


def modules_after(code: str) -> set[str]:
    tail = "\nimport sys; print('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stderr.split()}


def test_it_writes_and_says_where(
    ablation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ablation / "foreign").mkdir()
    (ablation / "foreign" / "record.json").write_text("{}")
    target = tmp_path / "x.html"
    assert main([str(ablation), "-o", str(target)]) == 0
    shown = capsys.readouterr()
    for name in ("x.html", "x.md", "x.csv", "x_comparisons.csv", "x.tex"):
        path = str(target.with_name(name))
        assert path in shown.out
        assert Path(path).is_file()
    assert "trilinear" in shown.out
    assert "0.866 ± 0.017" in shown.out
    for word in ("Verdict", "reference", "better", "equal"):
        assert word in shown.out
    assert shown.err.startswith(f"warning: {ablation}/foreign/record.json: schema=None")
    assert shown.err.count("\n") == 1


def test_reference_and_margin_are_the_reader_s(
    ablation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "x.html"
    wide = ["--reference", "trilinear", "--margin", "0.9"]
    assert main([str(ablation), "-o", str(target), *wide]) == 0
    shown = capsys.readouterr().out
    assert shown.count("equal") == 2
    assert "Every arm minus trilinear (as asked for)" in target.with_suffix(".md").read_text()
    assert main([str(ablation), "-o", str(target), "--reference", "bicubic"]) == 2
    assert "reference=bicubic: no arm has that label or number" in capsys.readouterr().err
    assert main([str(ablation), "-o", str(target), "--margin", "-0.1"]) == 2
    assert "margin -0.1" in capsys.readouterr().err


def test_pdf_is_answered_with_what_to_do_instead(
    ablation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(ablation), "-o", str(tmp_path / "x.html"), "--pdf"]) == 0
    assert "print" in capsys.readouterr().err
    assert (tmp_path / "x.html").is_file()


def test_markup_in_a_name_is_plain_text(
    ablation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ablation / "000/record.json"
    path.write_text(path.read_text().replace('"ablation_upsample"', '"[bold]a[/red]"'))
    assert main([str(ablation), "-o", str(tmp_path / "x.html")]) == 0
    assert "[bold]a[/red]" in capsys.readouterr().out.replace("\n", "")


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
    loaded = modules_after(code)
    assert "argparse" in loaded
    assert not loaded & {"pandas", "numpy", "matplotlib", "jinja2", "rich", *HEAVY}


def test_a_report_needs_no_deep_learning(ablation: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.html"
    arguments = [str(ablation), "-o", str(target)]
    code = f"from medseg.cli.report import main\nassert main({arguments!r}) == 0"
    loaded = modules_after(code)
    assert "pandas" in loaded
    assert not loaded & set(HEAVY)


def test_the_script_is_the_same_command_even_on_an_ascii_terminal(
    ablation: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "scripts/report.py"), str(ablation)]
    environment = {"PYTHONIOENCODING": "ascii", "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0.866 ? 0.017" in done.stdout
