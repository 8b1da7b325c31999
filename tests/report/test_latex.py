"""The LaTeX tables are what LaTeX takes."""

import shutil
import subprocess
from pathlib import Path

import pytest

from medseg.report import write_report

from .records import cell, finished, plan

DOCUMENT = r"""
\documentclass{article}
\usepackage{booktabs,longtable}
\usepackage[a3paper,landscape,margin=1cm]{geometry}
\begin{document}\input{report.tex}\end{document}
"""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_tables_compile(tmp_path: Path) -> None:
    for name in ("transposed", "nearest"):
        finished(name, 0).write(tmp_path / f"{name}-0")
    plan(*(cell(f"{name}-0", name, 0) for name in ("transposed", "nearest"))).write(tmp_path)
    write_report([tmp_path], tmp_path / "report.html")
    (tmp_path / "document.tex").write_text(DOCUMENT, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout[-2000:]
