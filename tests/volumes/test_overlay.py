import io

import numpy as np
import pytest
from PIL import Image

from medseg.volumes import OKABE_ITO, best_slice, draw_slice, picture_of_case, to_png


def colours(picture: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in np.array(picture).reshape(-1, 3).tolist()}


def test_second_axis_points_up_and_first_to_the_right() -> None:
    image = np.zeros((4, 4))
    image[3, 3], image[0, 3] = 1, 0.5
    picture = np.array(draw_slice(image, (1, 1), size=40, sides=("", "")))[..., 0]
    assert picture[2, 37] == 255
    assert 100 < picture[2, 2] < 200
    assert picture[37, 2] == picture[37, 37] == 0


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [
        ((40, 40), (1, 1), (320, 320)),
        ((35, 51), (1, 1), (210, 306)),
        ((20, 40), (2, 1), (320, 320)),
        ((100, 10), (1, 5), (300, 150)),
        ((640, 320), (0.5, 0.5), (320, 160)),
    ],
)
def test_picture_has_the_proportions_of_the_patient(
    shape: tuple[int, int], spacing: tuple[float, float], expected: tuple[int, int]
) -> None:
    assert draw_slice(np.zeros(shape), spacing, size=320).size == expected


def test_every_class_has_its_own_colour() -> None:
    label = np.arange(1, len(OKABE_ITO) + 1).repeat(5)[:, None].repeat(5, axis=1)
    picture = draw_slice(np.zeros(label.shape), (1, 1), label=label)
    assert set(OKABE_ITO) <= colours(picture)
    assert len(set(OKABE_ITO)) == len(OKABE_ITO)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_best_slice_has_the_most_foreground(axis: int) -> None:
    label = np.zeros((6, 7, 8), int)
    label[1, 1, 1] = label[3, 4, 5] = 1
    label.swapaxes(0, axis)[2, :3, :3] = 1
    assert best_slice(label, axis) == 2
    assert best_slice(np.zeros((6, 7, 8), int), axis) == (3, 3, 4)[axis]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_picture_of_a_case_shows_both_panels(axis: int) -> None:
    image = np.random.default_rng(0).random((12, 14, 16))
    label, prediction = np.zeros((2, 12, 14, 16), int)
    label[4:8, 4:8, 4:8] = 1
    prediction[4:8, 4:8, 4:8] = 2
    picture = picture_of_case(image, label, prediction, (1, 1, 1), axis)
    left = picture.crop((0, 0, picture.width // 2, picture.height))
    right = picture.crop((picture.width // 2, 0, picture.width, picture.height))
    assert OKABE_ITO[0] in colours(left)
    assert OKABE_ITO[1] not in colours(left)
    assert OKABE_ITO[1] in colours(right)
    assert OKABE_ITO[0] not in colours(right)


def test_picture_of_a_case_without_label_follows_the_prediction() -> None:
    prediction = np.zeros((12, 12, 12), int)
    prediction[4:8, 4:8, 1] = 1
    picture = picture_of_case(np.zeros((12, 12, 12)), None, prediction, (1, 1, 1))
    assert OKABE_ITO[0] in colours(picture)


def test_png_is_whole_and_repeatable() -> None:
    picture = draw_slice(np.random.default_rng(0).random((20, 20)), (1, 1))
    content = to_png(picture)
    assert content == to_png(picture)
    assert Image.open(io.BytesIO(content)).size == picture.size
