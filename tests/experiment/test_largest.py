"""What training tells prediction: where it mirrored, and which classes have one component."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from medseg.experiment.largest import LargestComponents
from medseg.inference.postprocess import kept_classes
from medseg.labelling import Labelling
from medseg.metrics import dice
from medseg.models.weights import load_model

CASE = arrays(np.uint8, (2, 4, 3, 3), elements=st.integers(0, 2))


def largest(mask: np.ndarray) -> np.ndarray:
    parts, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=2)[1:]
    return parts == 1 + sizes.argmax()


@given(st.lists(CASE, min_size=1, max_size=3))
@settings(max_examples=40)
def test_means_are_those_of_single_cases_over_which_they_are_defined(cases) -> None:
    found = LargestComponents(Labelling(("one", "two")))
    expected: dict[str, list[tuple[float, float]]] = {"one": [], "two": []}
    for labels, truth in cases:
        found.add(labels, truth)
        for value, own in enumerate(expected.values(), start=1):
            plain = dice(labels == value, truth == value)
            if plain is not None:
                kept = largest(labels == value) if (labels == value).any() else labels == value
                own.append((plain, dice(kept, truth == value) or 0.0))
    assert list(found.found()) == [name for name, own in expected.items() if own]
    for name, means in found.found().items():
        plain, kept = np.mean(expected[name], axis=0)
        assert means["cases"] == len(expected[name])
        assert (means["dice"], means["kept"]) == pytest.approx((plain, kept))


def test_voxels_that_the_truth_ignores_do_not_count() -> None:
    labels = np.array([1, 1, 0, 1], np.uint8).reshape(4, 1, 1)
    truth = np.array([1, 1, 0, 2], np.uint8).reshape(4, 1, 1)  # 2 is beyond the classes
    found = LargestComponents(Labelling(("one",)))
    found.add(labels, truth)
    assert found.found() == {"one": {"dice": 1.0, "kept": 1.0, "cases": 1}}


def test_a_region_is_judged_by_all_its_label_values() -> None:
    regions = Labelling.of_regions({"whole": [1, 2], "core": [2]}, [1, 2])
    labels = np.array([1, 2, 0, 2, 3, 0], np.uint8).reshape(6, 1, 1)
    truth = np.array([1, 2, 0, 0, 3, 0], np.uint8).reshape(6, 1, 1)  # 3 is ignored
    found = LargestComponents(regions)
    found.add(np.where(truth == 3, 0, labels), truth)
    assert found.found() == {
        "whole": {"dice": pytest.approx(4 / 5), "kept": 1.0, "cases": 1},
        "core": {"dice": pytest.approx(2 / 3), "kept": 1.0, "cases": 1},
    }


def test_the_model_of_a_run_says_where_it_was_mirrored_and_what_was_tried(finished: Path) -> None:
    card = load_model(finished).card
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert card.mirrored == config["augmentation"]["flip_axes"]
    record = json.loads((finished / "record.json").read_text())
    assert list(card.largest_component) == record["classes"]
    assert set(kept_classes(card)) <= {*card.classes}
    for name, mean in card.largest_component.items():
        scores = [case["metrics"][name]["dice"] for case in record["cases"]]
        assert mean["cases"] == len(scores)
        assert mean["dice"] == pytest.approx(np.mean(scores))
