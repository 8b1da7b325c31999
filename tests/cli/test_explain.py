"""`medseg explain`: options in; text, a figure or a page out."""

from pathlib import Path

import pytest

from medseg.cli.explain import main


def test_text_shows_the_formula_with_numbers_and_the_computed_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["transposed"]) == 0
    text = capsys.readouterr().out
    assert "(2 − 1)·2 − 2·1 + 1·(3 − 1) + 1 + 1 = 4" in text
    assert "2×2 → 4×4" in text
    assert " 5 14 10 12\n" in text


def test_options_reach_the_operator(capsys: pytest.CaptureFixture[str]) -> None:
    argv = "conv --size 64 48 --kernel 3 5 --stride 2 --padding 1 2 --in-channels 3 --times 2"
    assert main([*argv.split(), "--out-channels", "8"]) == 0
    text = capsys.readouterr().out
    assert "64×48 → 32×24 → 16×12" in text
    assert "3·5 · 3 · 8 = 360" in text


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_figure_is_written(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / f"figure.{ending}"
    assert main(["dilated", "--dims", "1", "--figure", "example", "-o", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert target.stat().st_size > 1000


def test_a_page_is_written(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    assert main(["grouped", "--html", "-o", str(target)]) == 0
    assert "<h1>Grouped convolution, 2-D" in target.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "nothing to explain; give a KIND"),
        (["conv", "--figure", "example"], "--figure needs a file to write; give one with -o FILE"),
        (["conv", "--figure", "example", "--html", "-o", "x"], "leave one out"),
        (["conv", "--figure", "example", "-o", "x.gif"], "output=x.gif"),
        (["conv", "--html", "-o", "x.svg"], "output=x.svg"),
        (["conv", "-o", "x.svg"], "output=x.svg"),
        (["--lecture", "3"], "make course"),
        (["conv", "--times", "0"], "times=0 must be at least 1; choose 1"),
        (["conv", "--kernel", "9", "--size", "3", "--padding", "0"], "choose size=9 or more"),
        (["pointwise", "--kernel", "3"], "pointwise has no such option; leave it out"),
    ],
)
def test_an_impossible_request_is_one_line_and_writes_nothing(
    argv: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("argv", [["blur"], ["conv", "--dims", "4"], ["conv", "--size", "many"]])
def test_a_wrong_word_is_a_usage_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(argv)
    assert leaving.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("form", [[], ["--html"], ["--figure", "example"]])
def test_a_file_of_the_user_is_kept(form: list[str], tmp_path: Path) -> None:
    output = tmp_path / {0: "a.txt", 1: "a.html", 2: "a.svg"}[len(form)]
    output.write_text("mine")
    assert main(["conv", *form, "-o", str(output)]) == 2
    assert output.read_text() == "mine"
    assert main(["conv", *form, "-o", str(output), "--overwrite"]) == 0
    assert main(["conv", *form, "-o", str(output)]) == 0  # its own
