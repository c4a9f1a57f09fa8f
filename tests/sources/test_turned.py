import cv2
import numpy as np
import pytest
import torch

from happymaps.params import CropParams, Params
from happymaps.sources.sample import USERS
from happymaps.sources.turned import draw_turned

YAWS = (-20.0, 0.0, 20.0)


@pytest.fixture(scope="module")
def crop_params(params: Params) -> CropParams:
    return params.crop.model_copy(update={"size": 64})


@pytest.fixture(scope="module")
def drawn(crop_params: CropParams) -> tuple[torch.Tensor, torch.Tensor]:
    return draw_turned(2, YAWS, 5, crop_params)


def test_the_same_seed_draws_the_same_pictures_however_many_people(
    drawn: tuple[torch.Tensor, torch.Tensor], crop_params: CropParams
) -> None:
    images, angles = drawn
    assert images.shape == (6, 1, 64, 64)
    assert images.dtype == torch.uint8
    assert angles.tolist() == [*YAWS, *YAWS]
    first, _ = draw_turned(1, YAWS, 5, crop_params)
    assert torch.equal(images[:3], first)
    other, _ = draw_turned(1, YAWS, 6, crop_params)
    assert not torch.equal(images[:3], other)
    assert not torch.equal(images[:3], images[3:])  # another person


def test_a_larger_yaw_moves_the_face_to_the_right_of_the_picture(params: Params) -> None:
    images, _ = draw_turned(2, (-6, 0, 6), 5, params.crop)
    for right, straight, left in images.view(2, 3, 128, 128).numpy():
        for turned, way in ((right, -1), (left, 1)):
            flow = cv2.calcOpticalFlowFarneback(
                straight, turned, np.zeros((128, 128, 2), np.float32), 0.5, 3, 15, 3, 5, 1.2, 0
            )
            moved = flow[40:75, 50:75, 0].mean()  # eyes and nose, in columns
            assert 1 < way * moved < 4


def test_nothing_but_the_person_moves(drawn: tuple[torch.Tensor, torch.Tensor]) -> None:
    for person in drawn[0].view(2, 3, 64, 64):
        for corner in (person[:, :8, :8], person[:, :8, -8:]):
            assert (corner == corner[0]).all()


@pytest.mark.parametrize("people", [0, -1, len(USERS) + 1])
def test_there_are_only_so_many_people(crop_params: CropParams, people: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and 20, not {people}"):
        draw_turned(people, YAWS, 0, crop_params)
