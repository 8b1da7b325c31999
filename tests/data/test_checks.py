"""Data that cannot teach: refused, or warned of, before training."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from medseg.data import Window, ZScore
from medseg.data.cache import PreparedCase
from medseg.data.checks import check_cases
from medseg.errors import DataError
from medseg.labelling import Labelling

Store = Callable[..., PreparedCase]
LABEL = np.indices((12, 12, 12)).sum(axis=0) % 3  # both classes everywhere
CT = Window(low=-100, high=300)


def plain(store: Store, count: int, **changes) -> list[PreparedCase]:
    return [store(LABEL, **changes) for _ in range(count)]


@pytest.fixture
def check(make) -> Callable[..., list[str]]:
    def _check(training: list, validation: list, **changes) -> list[str]:
        config = make(**changes).config
        return check_cases(training, validation, Labelling(("one", "two")), config)

    return _check


def test_sound_cases_pass_without_a_word(store: Store, check) -> None:
    assert check(plain(store, 3), plain(store, 2)) == []


@pytest.mark.parametrize(
    ("training", "validation", "outcome"),
    [
        (["a", "a"], ["b"], "warned"),
        (["b"], ["a", "a"], "warned"),
        (["a", "b"], ["a"], "refused"),
        (["a", "a", "a"], ["a"], "refused"),
    ],
    ids=str,
)
def test_one_image_under_several_ids(
    training: list[str], validation: list[str], outcome: str, store: Store, check
) -> None:
    sides = [[store(LABEL, image_sha256=content) for content in s] for s in (training, validation)]
    if outcome == "refused":
        with pytest.raises(DataError, match="identical"):
            check(*sides)
    else:
        assert ["identical" in warning for warning in check(*sides)] == [True]


@pytest.mark.parametrize(
    ("training", "validation", "warnings"),
    [((1, 2), (1,), 0), ((1,), (1, 2), 1), ((1,), (1,), 1), ((2,), (), 1)],
    ids=["in some", "validation only", "nowhere", "validation empty"],
)
def test_classes_that_no_label_has(
    training: tuple, validation: tuple, warnings: int, store: Store, check
) -> None:
    found = check([store(LABEL, classes=training)], [store(LABEL, classes=validation)])
    assert len(found) == warnings


def test_labels_without_any_foreground_are_refused(store: Store, check) -> None:
    with pytest.raises(DataError, match="foreground"):
        check(plain(store, 2, classes=()), plain(store, 1))


@pytest.mark.parametrize(
    ("intensity", "intensities", "warnings"),
    [
        (CT, (-1000, 800), 0),
        (CT, (0, 2000), 1),  # as an unsigned CT has it
        (CT, (24, 1500), 1),
        (CT, (-3000, -900), 1),  # all below the window
        (CT, (400, 1900), 2),  # unsigned, and all above the window
        (Window(low=0, high=300), (0, 2000), 0),
        (ZScore(), (0, 2000), 0),
    ],
    ids=str,
)
def test_intensities_that_are_no_hounsfield_units(
    intensity, intensities: tuple, warnings: int, store: Store, check
) -> None:
    odd, sound = (
        [replace(c, image_range=replace(c.image_range, intensity=list(own))) for c in cases]
        for cases, own in ((plain(store, 1), intensities), (plain(store, 2), (-1000, 1000)))
    )
    assert len(check(odd, sound, intensity=intensity)) == warnings
    assert len(check(sound, odd, intensity=intensity)) == warnings


@pytest.mark.parametrize(
    ("spacings", "cut", "warnings"),
    [
        ([(1, 1, 1), (1, 1, 1.1)], {}, 0),
        ([(1, 1, 1), (1, 1, 3)], {}, 1),
        ([(0.5, 1, 1), (1, 2, 1)], {}, 2),
        ([(1, 1, 1), (1, 1, 3)], {"spatial_dims": 2, "patch_size": (8, 8)}, 0),  # across slices
        ([(1, 1, 1), (2, 1, 1)], {"spatial_dims": 2, "patch_size": (8, 8)}, 1),
    ],
    ids=str,
)
def test_voxel_sizes_that_differ(
    spacings: list[tuple], cut: dict, warnings: int, store: Store, check
) -> None:
    cases = [store(LABEL, spacing=spacing) for spacing in spacings]
    assert len(check(cases, plain(store, 1), **cut)) == warnings


@pytest.mark.parametrize(
    ("patch_size", "warnings"), [((12, 12, 12), 0), ((16, 16, 12), 0), ((32, 32, 12), 1)], ids=str
)
def test_patches_many_times_the_volume(
    patch_size: tuple[int, ...], warnings: int, store: Store, check
) -> None:
    assert len(check(plain(store, 2), plain(store, 1), patch_size=patch_size)) == warnings
