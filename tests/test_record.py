"""The record of a run: what is written is read, and nothing else is."""

import json
import math
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.errors import DataError
from medseg.formatting import printable
from medseg.record import (
    FILE_NAME,
    SCHEMA,
    ArtifactRecord,
    CaseRecord,
    CaseRow,
    Estimate,
    LayerRow,
    Matched,
    Measure,
    PhaseLocked,
    Picture,
    RunRecord,
    Status,
)

texts = st.text(max_size=8).map(printable)  # what a terminal would obey is escaped once read
numbers = st.floats() | st.integers(-(2**60), 2**60)
few = {"max_size": 3}


def tables(values):
    return st.dictionaries(texts, values, **few)


def lists(values):
    return st.lists(values, **few)


trees = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: lists(inner) | tables(inner),
    max_leaves=5,
)
measures = tables(st.none() | st.floats())
locked = st.none() | st.builds(
    PhaseLocked, cases=st.integers(0, 99), p_value=st.none() | st.floats(0, 1)
)
artifacts = st.none() | st.builds(
    ArtifactRecord,
    period=lists(st.integers(1, 16)),
    layers=lists(
        st.builds(
            LayerRow,
            layer=texts,
            operator=texts,
            stride=lists(st.integers(1, 4)),
            values=measures,
            note=texts,
        )
    ),
    measures=tables(
        st.builds(
            Measure,
            title=texts,
            unit=texts,
            meaning=texts,
            level=st.sampled_from(["weights", "network", "cases"]),
            of=lists(texts),
            headline=st.booleans(),
        )
    ),
    values=measures,
    cases=lists(st.builds(CaseRow, case=texts, values=tables(measures))),
    means=tables(st.builds(Estimate, mean=st.floats(), cases=st.integers(0, 99))),
    prediction=locked,
    image=locked,
    notes=lists(texts),
)
records = st.builds(
    RunRecord,
    name=texts,
    status=st.sampled_from(get_args(Status)),
    started=texts,
    error=st.none() | texts,
    command=lists(texts),
    choices=tables(texts),
    levels=tables(texts),
    matched=st.none()
    | st.builds(Matched, quantity=texts, value=st.floats(0, 1e9), wanted=st.floats(0, 1e9)),
    fold=st.none() | st.integers(0, 9),
    config=tables(trees),
    machine=tables(trees),
    seed=st.integers(-(2**62), 2**62),
    parameters=st.none() | st.integers(0, 2**62),
    patch_size=st.none() | lists(st.integers(1, 512)),
    seconds=tables(st.floats(0, allow_infinity=False)),
    history=lists(tables(st.none() | st.floats())),
    cases=lists(st.builds(CaseRecord, case=texts, metrics=tables(tables(st.none() | st.floats())))),
    artifacts=artifacts,
    artifact_history=lists(measures),
    pictures=lists(st.builds(Picture, case=texts, caption=texts, png=texts)),
    finished=st.none() | texts,
)


def finite(value: Any) -> Any:
    """What a value becomes on paper: a number that is not finite is None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def refuse(constant: str):
    raise AssertionError(f"{constant} is not JSON")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=records)
def test_a_record_is_read_as_it_was_written(record, tmp_path) -> None:
    path = record.write(tmp_path)
    assert path == tmp_path / FILE_NAME
    json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)  # strict JSON
    again = RunRecord.read(path)
    assert asdict(again) == finite(asdict(replace(record, path=path)))
    assert all(isinstance(case, CaseRecord) for case in again.cases)
    assert again.write(tmp_path).read_bytes() == path.read_bytes()


@pytest.fixture
def record() -> RunRecord:
    return RunRecord(
        name="baseline",
        status="completed",
        started="2026-01-02T03:04:05+00:00",
        history=[{"epoch": 0, "train_loss": math.nan, "lr": 1e-3}],
        cases=[
            CaseRecord(
                case="a",
                metrics={"organ": {"dice": 0.5, "hd95_mm": math.inf, "surface_dice": None}},
            )
        ],
        pictures=[Picture(case="a", caption="axial", png="AA==")],
        artifacts=ArtifactRecord(period=[2], values={"constant_response": -math.inf}),
    )


def test_a_number_that_is_not_finite_is_null(record, tmp_path) -> None:
    content = json.loads(record.write(tmp_path).read_text())
    assert content["history"] == [{"epoch": 0, "train_loss": None, "lr": 1e-3}]
    organ = {"dice": 0.5, "hd95_mm": None, "surface_dice": None}
    files = {"image": "", "label": "", "prediction": ""}
    assert content["cases"] == [{"case": "a", "metrics": {"organ": organ}} | files]
    assert content["artifacts"]["values"] == {"constant_response": None}
    assert content["schema"] == SCHEMA
    assert set(content) | {"path"} == {field.name for field in fields(RunRecord)}


def test_writing_makes_the_folder_and_replaces_the_record(record, tmp_path) -> None:
    folder = tmp_path / "a" / "b"
    record.write(folder)
    replace(record, status="failed", error="no").write(folder)
    assert RunRecord.read(folder / FILE_NAME).error == "no"
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


def test_a_record_needs_only_a_name_a_status_and_a_start(tmp_path) -> None:
    path = tmp_path / FILE_NAME
    path.write_text('{"schema": 4, "name": "a", "status": "running", "started": "now"}')
    assert RunRecord.read(path) == RunRecord(name="a", status="running", started="now")


def test_a_record_of_the_first_schema_is_read(record, tmp_path) -> None:
    path = record.write(tmp_path)
    content = json.loads(path.read_text()) | {"artifacts": None}
    new = {"digest", "levels", "matched", "fold", "exit_code", "restarts", "artifacts"}
    old = {k: v for k, v in content.items() if k not in new} | {"schema": 1}
    path.write_text(json.dumps(old | {"sweep": {"seed": ["0", "1"]}}))
    content["history"][0]["epoch"] += 1
    assert asdict(RunRecord.read(path)) == content | {"path": path}


def test_epochs_of_an_old_record_count_from_1(record, tmp_path) -> None:
    path = replace(record, history=[{"epoch": e, "lr": 0.1} for e in (0, None, 2)]).write(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 3}))
    assert [row["epoch"] for row in RunRecord.read(path).history] == [1, None, 3]


def test_what_an_old_record_without_artifacts_has_of_them_is_read(record, tmp_path) -> None:
    path = replace(record, artifacts=None).write(tmp_path)
    gain = {"layer": "up", "operator": "Up()", "imbalance": 0.25}
    old = {"schema": 2, "upsampling": [gain], "constant_response": 0.5}
    path.write_text(json.dumps(json.loads(path.read_text()) | old))
    found = RunRecord.read(path)
    assert found.constant_response == 0.5
    assert found.artifacts.layers == [
        LayerRow(layer="up", operator="Up()", values={"dc_gain": 0.25})
    ]


@pytest.mark.parametrize("schema", [1, 2])
def test_artifacts_of_an_old_record_are_read_by_the_name_of_their_measure(schema) -> None:
    record = RunRecord.read(Path(__file__).parent / "records" / f"schema_{schema}.json")
    found = record.artifacts
    (layer,), (down,), (dilated,), (case,) = (
        found.layers, found.gradients, found.dilated, found.cases,
    )  # fmt: skip
    assert layer.values["dc_gain"] == 0.698024757029
    assert layer.values["sum_rule_order"] == 0
    assert down.values == {"overlap": 0.19, "gradient_imbalance": 0.64613196957}
    assert dilated.layer == "a, b"
    assert dilated.values["largest_gap"] == 4
    assert dilated.values["gridding_imbalance"] == 0.75
    assert found.constant_response == 0.11620196697238123
    assert case.get("prediction", "gain") == 0.021430658599444513
    assert case.get("cycle_spin", "cycle_spin_locked") == 7.990520475143256e-06
    assert case.get("decision", "dice_spun") == 0.81
    assert found.means["cycle_spin"].mean == 0.0006945101924899869
    # means of sizes with a floor of noise are no sizes of what cases share
    assert "gain" not in found.means
    assert found.means["gain_of_cases"].mean > 0
    assert (found.phase_map is None) == (schema == 1)
    assert len(found.spectra) == 2 * (schema - 1)


class TestReadRefuses:
    @pytest.mark.parametrize("content", [b"", b"{", b"{'a': 1}", b"\xff\xfe", b'{"a": 1}x'])
    def test_what_is_not_json(self, content, tmp_path) -> None:
        path = tmp_path / FILE_NAME
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"record\.json: cannot be read as JSON"):
            RunRecord.read(path)

    @pytest.mark.parametrize("path", [".", "nothing.json"])
    def test_what_is_not_a_file(self, path, tmp_path) -> None:
        with pytest.raises(DataError, match="cannot be read as JSON"):
            RunRecord.read(tmp_path / path)

    @pytest.mark.parametrize(
        ("content", "found"),
        [("[]", "'list'"), ("3", "'int'"), ("null", "'NoneType'"), ("{}", "None"),
         ('{"schema": 0}', "0"), ('{"schema": 5}', "5"), ('{"schema": "1"}', "'1'")],
    )  # fmt: skip
    def test_another_schema(self, content, found, tmp_path) -> None:
        path = tmp_path / FILE_NAME
        path.write_text(content)
        message = rf"record\.json: schema={found}, this version reads schemas 1 to 4; "
        with pytest.raises(DataError, match=message) as caught:
            RunRecord.read(path)
        assert caught.value.exit_code == 3

    @pytest.mark.parametrize("missing", ["name", "status", "started"])
    def test_a_record_without_a_field(self, missing, record, tmp_path) -> None:
        path = record.write(tmp_path)
        content = json.loads(path.read_text())
        del content[missing]
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=rf"not whole \(.*{missing}"):
            RunRecord.read(path)

    @pytest.mark.parametrize(
        "change",
        [
            {"unknown": 1},
            {"cases": None},
            {"cases": 3},
            {"cases": ["a"]},
            {"cases": [{"case": "a"}]},
            {"cases": [{"case": "a", "metrics": {}, "more": 1}]},
            {"seed": 0.5},
            {"seed": 2**63},
            {"fold": -(2**70)},
            {"parameters": True},
            {"history": [{"val_dice": "high"}]},
            {"pictures": [None]},
        ],
        ids=str,
    )
    def test_a_record_with_other_fields(self, change, record, tmp_path) -> None:
        path = record.write(tmp_path)
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(DataError, match="not whole"):
            RunRecord.read(path)
