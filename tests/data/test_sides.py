"""Left is left: what is mirrored, by the names of the classes and the way slices are cut."""

import logging
from collections.abc import Callable

import numpy as np
import pytest

from medseg.data.augmentation import STEPS, Augmentation
from medseg.data.cache import PreparedCase
from medseg.data.config import DataConfig
from medseg.data.patches import PatchDataset, as_lists, varied
from medseg.data.preprocess import BODY_AXES
from medseg.data.sides import resolve_flips, side_pairs
from medseg.errors import ConfigError
from medseg.labelling import Labelling

Store = Callable[..., PreparedCase]
STILL = dict.fromkeys(("affine", *STEPS), 0.0)
KIDNEYS = ["kidney_left", "kidney_right"]
PAIRS = [
    ("kidney_left", "kidney_right"),
    ("Left Kidney", "right kidney"),
    ("LEFT-KIDNEY", "RIGHT-KIDNEY"),
    ("kidneyLeft", "kidneyRight"),
    ("leftkidney", "rightkidney"),
    ("ctx-lh-precuneus", "ctx-rh-precuneus"),
    ("kidney_l", "kidney_r"),
    ("kidney.L", "kidney.R"),
    ("l. kidney", "r. kidney"),
    ("kidney (L)", "kidney (R)"),
    ("Lt_lung", "Rt_lung"),
    ("LKidney", "RKidney"),
    ("kidneyL", "kidneyR"),
    ("lkidney", "rkidney"),
    ("hippocampusl", "hippocampusr"),
    ("ren sinister", "ren dexter"),
    ("Niere links", "Niere rechts"),
    ("linke Niere", "rechte Niere"),
    ("oreille gauche", "oreille droite"),
    ("rein gauche", "rein droit"),
    ("riñón izquierdo", "riñón derecho"),
    ("rene sinistro", "rene destro"),
    ("rim esquerdo", "rim direito"),
    ("left", "right"),
]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def mirrored(
    classes: list[str],
    axes: tuple[str, ...] = BODY_AXES,
    flip_axes: tuple[int | str, ...] = ("left-right",),
    side_pairs: list | None = None,
) -> list[str]:
    """The ways of the body that are mirrored."""
    augmentation = Augmentation(flip_axes=flip_axes, side_pairs=side_pairs)
    return [
        axes[int(axis)]
        for axis in resolve_flips(augmentation, Labelling(tuple(classes)), axes).flip_axes
    ]


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_classes_named_by_side_are_found_and_not_mirrored(
    left: str, right: str, caplog: pytest.LogCaptureFixture
) -> None:
    classes = [right, "liver", left]
    assert side_pairs(classes) == [(left, right)]
    assert mirrored(classes, flip_axes=BODY_AXES) == ["anterior-posterior", "head-foot"]
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(
    "classes",
    [("Anterior", "Posterior"), ("L1", "R1"), ("tumour", "bright"), ("l", "m"), ("r", "kidney")],
    ids=str,
)
def test_other_names_are_mirrored_and_nothing_is_warned_of(
    classes: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    assert mirrored(list(classes)) == ["left-right"]
    assert not warnings(caplog)


def test_one_side_alone_is_not_mirrored_either(caplog: pytest.LogCaptureFixture) -> None:
    assert mirrored(["left kidney"]) == []
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("pairs", [[KIDNEYS], [[2, 1]], []], ids=str)
def test_a_list_of_pairs_decides_whatever_the_names_are(
    pairs: list, caplog: pytest.LogCaptureFixture
) -> None:
    assert mirrored(KIDNEYS, side_pairs=pairs) == ["left-right"]
    assert not warnings(caplog)


@pytest.mark.parametrize(
    ("flip_axes", "slice_axis", "expected"),
    [
        (["left-right"], None, ["left-right"]),
        (["left-right"], 0, []),
        (["left-right"], 1, ["left-right"]),
        (["left-right"], 2, ["left-right"]),
        (["head-foot", "left-right"], 0, ["head-foot"]),
        (["head-foot", "left-right"], 1, ["head-foot", "left-right"]),
        (["head-foot", "left-right"], 2, ["left-right"]),
        ([0], None, ["left-right"]),
        ([0], 0, ["anterior-posterior"]),  # a number is an axis of the patch
        ([1], 1, ["head-foot"]),
        ([0, "left-right"], 2, ["left-right"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("classes", [["liver"], KIDNEYS], ids=["no sides", "sides"])
def test_axes_are_ways_of_the_body_in_every_cut(
    flip_axes: list, slice_axis: int | None, expected: list[str], classes: list[str], make
) -> None:
    cut = {} if slice_axis is None else {"spatial_dims": 2, "slice_axis": slice_axis}
    size = (8, 8, 8) if slice_axis is None else (8, 8)
    config: DataConfig = make(patch_size=size, **cut).config
    kept = [name for name in expected if classes != KIDNEYS or name != "left-right"]
    assert mirrored(classes, config.patch_axes, tuple(flip_axes)) == kept


@pytest.mark.parametrize("slice_axis", [None, 0, 1, 2])
@pytest.mark.parametrize("way", BODY_AXES)
def test_swapped_classes_lie_where_the_image_shows_them(
    way: str, slice_axis: int | None, store: Store
) -> None:
    """Left kidneys are bright: mirrored, a bright kidney is on the right and called right."""
    axes = [axis for axis in range(3) if axis != slice_axis]
    label = np.zeros((8, 8, 8), np.uint8)
    label[0], label[7] = 1, 2
    order = [*axes, *([] if slice_axis is None else [slice_axis])]
    grid = label.transpose(order)
    sides = np.broadcast_to(np.arange(8.0)[:, None, None], (8, 8, 8)).transpose(order)
    resolved = resolve_flips(
        Augmentation(flip=1, flip_axes=[way], side_pairs=[KIDNEYS], **STILL),
        Labelling(tuple(KIDNEYS)),
        [BODY_AXES[axis] for axis in axes],
    )
    patches = PatchDataset(
        [store(grid, sides[None])],
        patch_size=(8,) * len(axes),
        foreground_fraction=0.5,
        augmentation=resolved,
        per_epoch=4,
    )
    moved = 0
    patch = varied(as_lists([patches[0, place] for place in range(4)]), patches.patch_size)
    for image, found in zip(patch["image"][:, 0], patch["label"][:, 0], strict=True):
        if 0 not in axes:
            continue
        # the side is where the voxel lies, not what it showed before
        assert (found[0] == 1).all()
        assert (found[-1] == 2).all()
        moved += int(image.flatten()[0] == 7)
    assert moved == (4 if way == "left-right" and 0 in axes else 0)


def test_the_log_says_what_is_mirrored(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="medseg"):
        mirrored(KIDNEYS, side_pairs=[KIDNEYS])
        mirrored(["liver"], axes=BODY_AXES[1:])
    assert len(caplog.records) == 2
    assert all("left-right" in message for message in caplog.messages)


@pytest.mark.parametrize(
    "pairs",
    [[["kidney_left"]], [["a", "b", "c"]], [["a", "a"]], [["a", "b"], ["b", "c"]], ["ab"]],
    ids=str,
)
def test_what_is_no_list_of_pairs_is_refused(pairs: list) -> None:
    with pytest.raises(ValueError, match="side_pairs"):
        Augmentation(side_pairs=pairs)


@pytest.mark.parametrize("pairs", [[["kidney_left", "kidny_right"]], [[1, 3]], [[0, 1]]], ids=str)
def test_classes_that_there_are_not_are_refused(pairs: list) -> None:
    with pytest.raises(ConfigError, match="side_pairs"):
        mirrored(KIDNEYS, side_pairs=pairs)


@pytest.mark.parametrize("axes", [["left"], [1.0], [True], ["left-right", "up"]], ids=str)
def test_ways_that_no_body_has_are_refused(axes: list) -> None:
    with pytest.raises(ValueError, match="flip_axes"):
        Augmentation(flip_axes=axes)
