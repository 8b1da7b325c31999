"""Left stays left: which axes of a patch are mirrored, and what becomes of classes named by side.

Mirrored, the left kidney looks like the right one. Either its label is swapped with the other's,
where a configuration says that the two are mirror images (`augmentation.side_pairs`), or left and
right are not mirrored at all: names alone do not tell, as a heart's ventricles are a pair by name
and no mirror images of each other.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace

from medseg.data.augmentation import Augmentation
from medseg.data.preprocess import BODY_AXES
from medseg.errors import ConfigError
from medseg.labelling import Labelling

log = logging.getLogger(__name__)

_LEFT_RIGHT = BODY_AXES[0]
_SIDES = (  # spelled out, these also count within a word
    ("left", "right"),
    ("sinister", "dexter"),
    ("sinistra", "dextra"),
    ("sinistrum", "dextrum"),
    ("links", "rechts"),
    ("linke", "rechte"),
    ("gauche", "droit"),
    ("gauche", "droite"),
    ("izquierdo", "derecho"),
    ("izquierda", "derecha"),
    ("sinistro", "destro"),
    ("sinistra", "destra"),
    ("esquerdo", "direito"),
    ("esquerda", "direita"),
)
_ABBREVIATED_SIDES = (
    ("l", "r"),
    ("lh", "rh"),
    ("lt", "rt"),
    ("lft", "rgt"),
    ("sin", "dex"),
    ("sx", "dx"),
)
_PATTERNS = (
    *((re.escape(left), right) for left, right in _SIDES),
    *((rf"\b{left}\b", right) for left, right in _ABBREVIATED_SIDES),
    (r"\bl(?=[a-z]{3})", "r"),  # lkidney
    (r"(?<=[a-z]{3})l\b", "r"),  # kidneyl
)


def resolve_flips(
    augmentation: Augmentation, labelling: Labelling, axis_names: Sequence[str]
) -> Augmentation:
    """Turns ways of the body into axes of the patch, and names of classes into numbers.

    The log says what is mirrored and why something is not.

    Args:
        augmentation: As configured.
        labelling: Classes or regions.
        axis_names: The way of the body of each axis of the patch.

    Raises:
        ConfigError: an axis that the patch does not have, or a class that there is not.
    """
    classes = labelling.names
    if augmentation.side_pairs and labelling.overlap:
        raise ConfigError(
            "augmentation.side_pairs swaps classes, and regions that overlap are no classes; "
            "leave it out"
        )
    names = [_named(axis, axis_names) for axis in augmentation.flip_axes]
    if not augmentation.flip or not names:
        return replace(augmentation, flip_axes=())
    for name in names:
        if name not in axis_names:
            log.info("slices are not mirrored %s, which runs across them", name)
    pairs = [[_number(item, classes) for item in pair] for pair in augmentation.side_pairs or ()]
    mirrored = [name for name in dict.fromkeys(names) if name in axis_names]
    sided = classes_of_sides(classes) if augmentation.side_pairs is None else []
    if sided and _LEFT_RIGHT in mirrored:
        mirrored.remove(_LEFT_RIGHT)
        log.warning(
            "patches are not mirrored left-right: classes are named by side, such as %s; where "
            "they are mirror images, name the pairs that are swapped in augmentation.side_pairs"
            ", or say that there are none with []",
            " and ".join(map(repr, sided[:2])),
        )
    swapping = bool(pairs) and _LEFT_RIGHT in mirrored
    if mirrored:
        swap = f"; {len(pairs)} pairs of classes change sides with it" if swapping else ""
        log.info("patches are mirrored %s%s", " and ".join(mirrored), swap)
    return replace(
        augmentation,
        flip_axes=[axis_names.index(name) for name in mirrored],
        side_pairs=pairs if swapping else None,
    )


def side_pairs(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Finds the classes whose names differ in the side of the body alone.

    Case and punctuation do not matter; an abbreviation must stand alone, or begin or end a word.

    >>> side_pairs(["Kidney_Left", "kidney (right)", "liver", "l. lung", "R Lung", "L1", "R1"])
    [('Kidney_Left', 'kidney (right)'), ('l. lung', 'R Lung')]
    """
    plain = {_plain_name(name): name for name in classes}
    pairs = {}
    for left, right in _PATTERNS:
        for name in plain:
            mirrored = re.sub(left, right, name)
            if mirrored != name and mirrored in plain:
                pairs[plain[name]] = plain[mirrored]
    return list(pairs.items())


def classes_of_sides(classes: Sequence[str]) -> list[str]:
    """Classes that are a pair, or whose names spell a side out: the other is then background."""
    words = {word for pair in _SIDES for word in pair}
    paired = [name for pair in side_pairs(classes) for name in pair]
    return paired or [name for name in classes if words & {*_plain_name(name).split()}]


def _plain_name(name: str) -> str:
    """Words in lower case, one space between them; `kidneyLeft` and `LKidney` are two words."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return " ".join(re.findall(r"[^\W_]+", words)).casefold()


def _named(axis: int | str, axis_names: Sequence[str]) -> str:
    if isinstance(axis, str):
        return axis
    if not 0 <= axis < len(axis_names):
        raise ConfigError(
            f"augmentation.flip_axes={axis} is no axis of the patch; name the way of the body, of "
            f"{', '.join(axis_names)}"
        )
    log.info("augmentation.flip_axes=[%d] is %s here; better name it so", axis, axis_names[axis])
    return axis_names[axis]


def _number(item: int | str, classes: Sequence[str]) -> int:
    if isinstance(item, int) and 0 < item <= len(classes):
        return item
    if item in classes:
        return list(classes).index(str(item)) + 1
    raise ConfigError(
        f"augmentation.side_pairs: {item!r} is no foreground class; choose from "
        f"{', '.join(classes)}"
    )
