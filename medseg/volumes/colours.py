"""One colour for each class: in pictures, palettes, segmentations and tables of names."""

import colorsys
import math

OKABE_ITO = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (213, 94, 0),  # vermillion
    (204, 121, 167),  # reddish purple
    (0, 114, 178),  # blue
)
"""Colours of the classes 1, 2, ... that colour-blind readers can distinguish."""

_STEPS = [math.sqrt(prime) % 1 for prime in (2, 3, 5)]  # irrational, so that no colour returns soon


def class_colours(count: int) -> list[tuple[int, int, int]]:
    """Colours of the classes 1..count, no two alike: those of Okabe and Ito, then of all hues.

    >>> class_colours(2)
    [(230, 159, 0), (86, 180, 233)]
    """
    colours, step = dict.fromkeys(OKABE_ITO[:count]), 0
    while len(colours) < count:
        step += 1
        hue, saturation, value = (step * irrational % 1 for irrational in _STEPS)
        rgb = colorsys.hsv_to_rgb(hue, 0.4 + 0.6 * saturation, 0.5 + 0.5 * value)
        red, green, blue = (round(255 * share) for share in rgb)
        colours[red, green, blue] = None
    return list(colours)
