from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from happymaps.images.crop import Box
from happymaps.params import CropParams, Params
from happymaps.sources.drawing import Person, Scene, render
from happymaps.stages.heads import _head_in_frame
from happymaps.stages.layout import INTERIM

WHO = Person(hair_style="bald")
# Of a drawn head, what its box must reach of it and may reach beyond, in sizes of the head.
TOLERANCE = 0.25


@pytest.fixture
def crop_params(params: Params) -> CropParams:
    return params.crop.model_copy(update={"size": 64})


@pytest.fixture
def frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = INTERIM / "recordings"
    folder.mkdir(parents=True)
    return folder


def film(path: Path, place: float, width: int, height: int) -> Box:
    """Draw a frame with a head `place` of its width from the left; give the head's own edges."""
    scale = 0.22 * min(width, height)
    scene = Scene(width, height, scale, (place, 0.45), lamp=1.1, ambient=0.5, room="kitchen")
    picture, head = render(WHO, yaw=0, pitch=0, scene=scene)
    Image.fromarray(picture).save(path)
    rows, columns = np.nonzero(head)
    return Box(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)


@pytest.mark.parametrize(
    ("width", "height", "place"),
    [
        (320, 240, 0.5),
        (320, 240, 0.3),
        (320, 240, 0.8),  # partly outside the centre square, on the right
        (320, 240, 0.17),  # and on the left
        (640, 360, 0.6),  # larger than heads are looked for in
        (280, 320, 0.5),
    ],
)
def test_the_box_lies_where_the_head_is_in_the_crop(
    frames: Path, crop_params: CropParams, width: int, height: int, place: float
) -> None:
    head = film(frames / "000000.png", place, width, height)
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    factor = crop_params.size / side
    expected = np.array(
        [
            (head.left - left) * factor,
            (head.top - top) * factor,
            (head.right - left) * factor,
            (head.bottom - top) * factor,
        ]
    )
    found = _head_in_frame("000000.png", crop_params)
    assert found is not None
    size = expected[3] - expected[1]
    assert np.abs(np.array(found) - expected).max() < TOLERANCE * size
    if place in (0.8, 0.17):
        assert found.left < 0 or found.right > crop_params.size


def test_the_box_is_in_pixels_of_whatever_crop_params_ask_for(
    frames: Path, crop_params: CropParams
) -> None:
    film(frames / "000000.png", 0.5, 320, 240)
    small = _head_in_frame("000000.png", crop_params)
    large = _head_in_frame("000000.png", crop_params.model_copy(update={"size": 128}))
    stretch = crop_params.model_copy(update={"recordings": "stretch"})
    stretched = _head_in_frame("000000.png", stretch)
    assert small is not None
    assert large is not None
    assert stretched is not None
    assert np.abs(2 * np.array(small) - np.array(large)).max() <= 1
    width, wide = stretched.right - stretched.left, small.right - small.left
    assert width == pytest.approx(wide * 240 / 320, abs=1.5)
    assert (stretched.top, stretched.bottom) == (small.top, small.bottom)


def test_a_frame_without_a_head_has_no_box(frames: Path, crop_params: CropParams) -> None:
    Image.new("L", (320, 240), 90).save(frames / "000000.png")
    assert _head_in_frame("000000.png", crop_params) is None
