"""Someone at a terminal."""

from pathlib import Path

import pytest

from medseg.cli.predict import main


class User:
    """Types commands; the model and the output folder are given unless the command names them."""

    def __init__(self, model: Path, output: Path, capsys: pytest.CaptureFixture[str]):
        self.model = model
        self.output = output
        self.capsys = capsys
        self.out: list[str] = []
        self.errors: list[str] = []

    def types(self, *inputs: Path | str, model: Path | None = None, options: str = "") -> int:
        argv = ["-m", str(model or self.model), "-o", str(self.output), "--device", "cpu"]
        try:
            code = main([*argv, "-i", *map(str, inputs), *options.split()])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else -1
        said = self.capsys.readouterr()
        self.out, self.errors = said.out.splitlines(), said.err.splitlines()
        assert "Traceback" not in said.err + said.out
        if self.output.is_dir():
            assert not [p.name for p in self.output.rglob("*") if ".part" in p.name]
        return code

    def written(self) -> list[str]:
        """Names in the output folder, hidden ones left out."""
        return sorted(p.name for p in self.output.glob("[!.]*"))
