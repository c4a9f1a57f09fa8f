import cv2
import numpy as np
import pytest

from happymaps.images.decode import Grey
from happymaps.sources.sample import USERS
from happymaps.sources.turned import draw_turned

YAWS = (-20.0, 0.0, 20.0)


@pytest.fixture(scope="module")
def pictures() -> list[Grey]:
    return draw_turned(2, YAWS, 5)[0]


def test_the_same_seed_draws_the_same_pictures_however_many_people(pictures: list[Grey]) -> None:
    assert {(picture.shape, picture.dtype.name) for picture in pictures} == {((120, 128), "uint8")}
    first, angles = draw_turned(1, YAWS, 5)
    assert angles.tolist() == [*YAWS]
    assert np.array_equal(pictures[:3], first)
    other, _ = draw_turned(1, YAWS, 6)
    assert not np.array_equal(pictures[:3], other)
    assert not np.array_equal(pictures[:3], pictures[3:])  # another person


def test_a_larger_yaw_moves_the_face_to_the_right_of_the_picture() -> None:
    pictures, angles = draw_turned(2, (-6, 0, 6), 5)
    assert angles.tolist() == [-6, 0, 6, -6, 0, 6]
    for right, straight, left in (pictures[:3], pictures[3:]):
        for turned, way in ((right, -1), (left, 1)):
            flow = cv2.calcOpticalFlowFarneback(
                straight, turned, np.zeros((120, 128, 2), np.float32), 0.5, 3, 15, 3, 5, 1.2, 0
            )
            moved = flow[37:70, 50:75, 0].mean()  # eyes and nose, in columns
            assert 1 < way * moved < 4


def test_nothing_but_the_person_moves(pictures: list[Grey]) -> None:
    for person in (np.stack(pictures[:3]), np.stack(pictures[3:])):
        for corner in (person[:, :16, :16], person[:, :16, -16:]):
            assert (corner == corner[0]).all()


@pytest.mark.parametrize("people", [0, -1, len(USERS) + 1])
def test_there_are_only_so_many_people(people: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and 20, not {people}"):
        draw_turned(people, YAWS, 0)
