"""Held-out cases: one that fails does not stop the others, and is never left out in silence."""

from pathlib import Path

import pytest
from tests_support import QUICK, the_run, train

from medseg.errors import DataError
from medseg.inference.predictor import Predictor
from medseg.record import RunRecord


@pytest.mark.parametrize(
    "error",
    [IndexError("boom"), DataError("scan: damaged")],
    ids=lambda error: type(error).__name__,
)
def test_a_case_that_cannot_be_scored_fails_alone(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, seen = Predictor.predict, []

    def fails(self, volume, **options):
        seen.append(volume.path)
        if len(seen) == 1:
            raise error
        return predict(self, volume, **options)

    monkeypatch.setattr(Predictor, "predict", fails)
    assert train(tmp_path, *QUICK, "trainer.epochs=1") == 3
    run = the_run(tmp_path)
    record = RunRecord.read(run / "record.json")
    assert record.status == "failed"
    assert record.error is not None
    assert str(seen[0]) in record.error or "scan: damaged" in record.error
    assert [Path(case.image) for case in record.cases] == [path.resolve() for path in seen[1:]]
    assert record.cases[0].metrics
    log = (run / "train.log").read_text(encoding="utf-8")
    assert ("Traceback" in log) == isinstance(error, IndexError)
