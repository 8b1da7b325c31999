import json
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.splits import (
    Split,
    check,
    draw_folds,
    draw_nnunet_folds,
    folds_text,
    patient_of,
    read_folds,
    split_cases,
)
from medseg.errors import ConfigError, DataError

IDS = st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=20, unique=True)
FRACTIONS = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**32)


@given(IDS, FRACTIONS, SEEDS)
def test_disjoint_complete_and_never_empty(ids, fraction, seed):
    split = split_cases(ids, validation_fraction=fraction, seed=seed)
    assert sorted([*split.train, *split.validation]) == sorted(ids)
    assert split.train
    assert split.validation
    check(split, ids)


@given(IDS, FRACTIONS, SEEDS, st.randoms())
def test_order_does_not_matter(ids, fraction, seed, random):
    before = split_cases(ids, validation_fraction=fraction, seed=seed)
    random.shuffle(ids)
    assert split_cases(ids, validation_fraction=fraction, seed=seed) == before


@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=30).filter(lambda p: len(set(p)) > 1),
    FRACTIONS,
    SEEDS,
)
def test_a_patient_is_on_one_side(patients, fraction, seed):
    ids = [f"p{patient}_scan{scan}" for scan, patient in enumerate(patients)]
    split = split_cases(ids, validation_fraction=fraction, seed=seed, patient=r"(p\d)_")
    assert sorted([*split.train, *split.validation]) == sorted(ids)
    assert {c[:2] for c in split.train}.isdisjoint(c[:2] for c in split.validation)


def test_the_same_on_every_machine():
    ids = [f"case_{number:02d}" for number in range(10)]
    split = split_cases(ids, validation_fraction=0.3, seed=0)
    assert split.validation == ("case_02", "case_04", "case_06")
    assert split_cases(ids, validation_fraction=0.3, seed=1) != split


def test_one_patient_cannot_be_split():
    with pytest.raises(DataError, match="1 cases of 1 patients"):
        split_cases(["a"], validation_fraction=0.5, seed=0)
    with pytest.raises(DataError, match="2 cases of 1 patients"):
        split_cases(["a_1", "a_2"], validation_fraction=0.5, seed=0, patient="(a)_")
    with pytest.raises(DataError, match="0 cases"):
        split_cases([], validation_fraction=0.5, seed=0)


@pytest.mark.parametrize("fraction", [1, -0.1, 1.5, float("nan")])
def test_fractions_that_mean_nothing(fraction):
    with pytest.raises(ConfigError, match="validation_fraction"):
        split_cases(["a", "b"], validation_fraction=fraction, seed=0)


def test_nothing_is_held_out_where_all_cases_train():
    split = split_cases(["b", "a"], validation_fraction=0, seed=0)
    assert split == Split(train=("a", "b"), validation=())
    check(split, ["a", "b"], holds_out=False)
    with pytest.raises(DataError, match="empty"):
        check(split, ["a", "b"])


def test_a_case_listed_twice():
    with pytest.raises(DataError, match="a: listed twice"):
        split_cases(["a", "b", "a"], validation_fraction=0.5, seed=0)


def test_patient_of():
    assert patient_of("sub-01_left", patient=None) == "sub-01_left"
    assert patient_of("sub-01_left", patient=r"(sub-\d+)") == "sub-01"
    with pytest.raises(DataError, match="case x does not match"):
        patient_of("x", patient=r"(sub-\d+)")
    with pytest.raises(DataError, match="does not match"):
        patient_of("x", patient="(y)?x")
    with pytest.raises(ConfigError, match="needs a group"):
        patient_of("x", patient="x")
    with pytest.raises(ConfigError, match="no regular expression"):
        patient_of("x", patient="(x")


@given(IDS, SEEDS)
def test_written_and_read(tmp_path_factory, ids, seed):
    split = split_cases(ids, validation_fraction=0.3, seed=seed)
    path = tmp_path_factory.getbasetemp() / "split.json"
    split.write(path)
    assert Split.read(path) == split
    assert Split.read(str(path)) == split


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"train": ["a"]}',
        '{"train": ["a"], "validation": "b"}',
        '{"train": [1], "validation": ["b"]}',
    ],
)
def test_a_file_in_another_form(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r'must hold \{"train"'):
        Split.read(path)


def test_a_file_of_the_users_with_more_in_it(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"seed": 3, "train": ["b", "a"], "validation": ["c"]}))
    assert Split.read(path) == Split(train=("a", "b"), validation=("c",))


@pytest.mark.parametrize(
    ("train", "validation", "fault"),
    [
        (("a",), ("a", "b"), "^a: in the split twice"),
        (("a", "a"), ("b",), "^a: in the split twice"),
        (("a", "x", "y"), ("b",), "^x, y: in the split but not in the dataset"),
        ((), ("a",), "is empty"),
        (("a",), (), "is empty"),
        (tuple("pqrstuv"), ("a",), "^p, q, r, s, t and 2 more: "),
    ],
)
def test_check_refuses(train, validation, fault):
    with pytest.raises(DataError, match=fault):
        check(Split(train=train, validation=validation), ["a", "b", "c"])


def test_check_finds_a_patient_on_both_sides():
    split = Split(train=("p1_left",), validation=("p1_right",))
    ids = ["p1_left", "p1_right", "p2_left"]
    check(split, ids)  # may leave cases out
    with pytest.raises(DataError, match="p1: patients on both sides"):
        check(split, ids, patient="(p.)_")


@given(
    ids=st.sets(st.text(min_size=1, max_size=5), min_size=2, max_size=30),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_folds_hold_out_every_case_once_and_are_even(ids, seed, data) -> None:
    folds = data.draw(st.integers(2, len(ids)))
    splits = draw_folds(ids, folds=folds, seed=seed)
    assert len(splits) == folds
    held_out = [case for split in splits for case in split.validation]
    assert sorted(held_out) == sorted(ids)
    assert all({*split.train, *split.validation} == ids for split in splits)
    sizes = [len(split.validation) for split in splits]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("folds", "error", "words"),
    [
        (1, ConfigError, r"data\.folds=1"),
        ("all", ConfigError, r"data\.folds=all"),
        (5, DataError, "at least 5 patients are needed"),
    ],
)
@pytest.mark.parametrize("draw", [partial(draw_folds, seed=0), draw_nnunet_folds])
def test_folds_that_mean_nothing_are_refused(draw, folds, error, words) -> None:
    with pytest.raises(error, match=words):
        draw(list("abcd"), folds=folds)


def test_folds_do_not_separate_a_patient() -> None:
    ids = [f"p{patient}_{scan}" for patient in range(7) for scan in range(3)]
    for split in draw_folds(ids, folds=3, seed=0, patient=r"(p\d)_"):
        assert not {c[:2] for c in split.train} & {c[:2] for c in split.validation}


@given(
    ids=st.sets(st.text(min_size=1, max_size=5), min_size=2, max_size=40),
    data=st.data(),
)
def test_nnunet_s_folds_are_those_of_scikit_learn(ids: set[str], data: st.DataObject) -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    folds = data.draw(st.integers(2, len(ids)))
    rule = selection.KFold(folds, shuffle=True, random_state=12345)
    in_order = sorted(ids)
    wanted = [tuple(in_order[place] for place in held_out) for _, held_out in rule.split(in_order)]
    drawn = draw_nnunet_folds(data.draw(st.permutations(in_order)), folds=folds)
    assert [split.validation for split in drawn] == wanted
    assert all(set(split.train) == ids - set(split.validation) for split in drawn)


def test_nnunet_s_first_fold_of_the_decathlon_s_heart_is_the_one_its_manual_prints() -> None:
    numbers = (3, 4, 5, 7, 9, 10, 11, 14, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26, 29, 30)
    first, *_ = draw_nnunet_folds([f"la_{number:03d}" for number in numbers])
    assert first.validation == ("la_007", "la_016", "la_021", "la_024")


def test_nnunet_s_folds_part_no_patient_unsaid() -> None:
    ids = [f"p{patient}_{scan}" for patient in range(7) for scan in range(3)]
    with pytest.raises(DataError, match=r"data\.splits=random"):
        draw_nnunet_folds(ids, patient=r"(p\d)_")
    assert draw_nnunet_folds(ids, patient="(.+)") == draw_nnunet_folds(ids)


def test_folds_are_read_as_they_were_written(tmp_path: Path) -> None:
    folds = draw_folds(list("abcdef"), folds=3, seed=1)
    (tmp_path / "splits_final.json").write_text(folds_text(folds))
    assert read_folds(tmp_path / "splits_final.json") == folds
