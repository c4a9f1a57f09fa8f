import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from happymaps.images import faces
from happymaps.images.boxes import Box
from happymaps.images.crop import _with_margin, centre_square, cut_out, face_places
from happymaps.images.decode import Grey
from happymaps.images.faces import Looked, find_face, head_around, without_parts
from happymaps.params import CropMethod
from happymaps.sources.drawing import Person, Scene, render
from happymaps.understanding.focus import box_masks
from toys import crop, crop_params

METHODS: tuple[CropMethod, ...] = ("stretch", "square", "face")


NOTHING = Looked((100, 200), None)


def looked(face: Box, shape: tuple[int, int] = (100, 200)) -> Looked:
    return Looked(shape, face, tuple(range(10)))


def numbered(height: int, width: int) -> Grey:
    return np.arange(height * width).astype(np.uint8).reshape(height, width)


def drawn_face(width: int, height: int, x: int, y: int, radius: int) -> Grey:
    """A face of ellipses around (x, y): hair, skin, brows, eyes, pupils, nose, mouth."""
    picture = np.full((height, width), 150, np.uint8)

    def ellipse(right: float, down: float, wide: float, high: float, grey: int) -> None:
        centre = (round(x + right * radius), round(y + down * radius))
        axes = (round(wide * radius), round(high * radius))
        cv2.ellipse(picture, centre, axes, 0, 0, 360, grey, -1, cv2.LINE_AA)

    ellipse(0, -0.15, 0.95, 1.25, 40)
    ellipse(0, 0.1, 0.8, 1.1, 200)
    for side in (-0.36, 0.36):
        ellipse(side, -0.28, 0.24, 0.05, 70)
        ellipse(side, -0.1, 0.19, 0.11, 110)
        ellipse(side, -0.08, 0.1, 0.09, 30)
    ellipse(0, 0.2, 0.06, 0.3, 225)
    ellipse(0, 0.68, 0.3, 0.07, 90)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), radius / 30), np.uint8)


@pytest.mark.parametrize("resample", ["lanczos", "area"])
@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (16, 16, slice(0, 16), slice(0, 16)),
        (16, 22, slice(0, 16), slice(3, 19)),
        (16, 21, slice(0, 16), slice(2, 18)),  # of two middles the left
        (23, 16, slice(3, 19), slice(0, 16)),  # and the upper
        (17, 19, slice(0, 17), slice(1, 18)),
    ],
)
def test_square_is_the_exact_centre(
    height: int, width: int, rows: slice, columns: slice, resample: str
) -> None:
    picture = numbered(height, width)
    found = crop(picture, "square", crop_params(min(height, width), resample))
    assert np.array_equal(found, picture[rows, columns])


@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 3), (5, 1), (1, 4)])
def test_stretch_averages_what_it_squeezes(across: int, down: int) -> None:
    toy = numbered(16, 16)
    picture = np.kron(toy, np.ones((down, across), np.uint8))
    assert np.array_equal(crop(picture, "stretch", crop_params(16)), toy)


def test_stretch_keeps_the_edges_that_square_cuts() -> None:
    picture = np.full((16, 48), 100, np.uint8)
    picture[:, :6] = 0
    params = crop_params(16)
    assert (crop(picture, "stretch", params)[:, :2] == 0).all()
    assert (crop(picture, "square", params) == 100).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("resample", ["lanczos", "area"])
@pytest.mark.parametrize("size", [16, 31, 128])
@pytest.mark.parametrize("shape", [(1, 1), (7, 40), (120, 90), (1, 1000)])
def test_a_plain_picture_stays_plain(
    method: CropMethod, resample: str, size: int, shape: tuple[int, int]
) -> None:
    image = crop(np.full(shape, 77, np.uint8), method, crop_params(size, resample))
    assert image.shape == (size, size)
    assert image.dtype == np.uint8
    assert (image == 77).all()


def test_lanczos_overshoots_an_edge_and_area_does_not() -> None:
    picture = np.full((64, 64), 50, np.uint8)
    picture[:, 34:] = 200
    lanczos = crop(picture, "stretch", crop_params(16, "lanczos"))
    area = crop(picture, "stretch", crop_params(16, "area"))
    assert lanczos.max() > 200
    assert lanczos.min() < 50
    assert area[0].tolist() == [50] * 8 + [125] + [200] * 7


def test_face_falls_back_to_the_square() -> None:
    noise: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (60, 90), dtype=np.uint8)
    found = crop(noise, "face", crop_params(24))
    assert find_face(noise) is None
    assert np.array_equal(found, crop(noise, "square", crop_params(24)))


@pytest.mark.parametrize(
    ("width", "height", "x", "y", "radius"),
    [
        (160, 200, 80, 90, 40),
        (400, 300, 90, 200, 40),
        (400, 300, 310, 90, 40),
        (1200, 900, 300, 600, 120),
        (48, 60, 24, 30, 14),
    ],
)
def test_face_is_cut_out_where_it_is(width: int, height: int, x: int, y: int, radius: int) -> None:
    picture = drawn_face(width, height, x, y, radius)
    box = find_face(picture)
    assert box is not None
    skin = np.array([x - 0.8 * radius, y - radius, x + 0.8 * radius, y + 1.2 * radius])
    assert np.abs(np.array(box) - skin).max() < 0.2 * radius
    found = crop(picture, "face", crop_params(32))
    square = _with_margin(box, 0)
    inside = picture[square.top : square.bottom, square.left : square.right]
    assert np.array_equal(found, crop(inside, "stretch", crop_params(32)))


def test_the_largest_face_is_taken() -> None:
    small, large = drawn_face(200, 240, 70, 120, 30), drawn_face(200, 240, 100, 120, 60)
    box = find_face(np.hstack([small, large]))
    assert box is not None
    assert box.left > 200
    box = find_face(np.hstack([large, small]))
    assert box is not None
    assert box.right < 200


def pasted(picture: Grey, size: int, left: int, top: int, seed: int) -> Grey:
    """A picture somewhere on a larger square one, whose detail is noise."""
    noise = np.random.default_rng(seed).normal(120, 30, (size, size))
    large: Grey = cv2.GaussianBlur(noise, (0, 0), 3).clip(0, 255).astype(np.uint8)
    height, width = picture.shape
    large[top : top + height, left : left + width] = picture
    return large


@pytest.mark.parametrize("radius", [16, 30, 50])
@pytest.mark.parametrize(("left", "top"), [(40, 60), (560, 500)])
def test_a_face_that_is_small_for_its_picture_is_found_in_more_pixels(
    radius: int, left: int, top: int
) -> None:
    small = drawn_face(4 * radius, 4 * radius, 2 * radius, 2 * radius, radius)
    box = find_face(pasted(small, 900, left, top, seed=0))
    assert box is not None
    x, y = left + 2 * radius, top + 2 * radius
    skin = np.array([x - 0.8 * radius, y - radius, x + 0.8 * radius, y + 1.2 * radius])
    assert np.abs(np.array(box) - skin).max() < 0.3 * radius


@pytest.mark.parametrize("seed", range(3))
def test_where_nobody_is_nothing_small_is_found_either(seed: int) -> None:
    assert find_face(pasted(np.full((9, 9), 90, np.uint8), 900, 300, 200, seed)) is None


@pytest.mark.parametrize(("sure", "found"), [(0.9, True), (1.01, False)])
def test_of_small_faces_only_those_are_taken_that_it_is_sure_of(
    sure: float, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faces, "_SURE", sure)
    small = drawn_face(160, 160, 80, 80, 40)
    assert (find_face(pasted(small, 900, 300, 200, seed=0)) is not None) == found


def test_in_a_picture_of_few_pixels_no_more_are_looked_at() -> None:
    """What is small there is mostly wallpaper."""
    picture = pasted(drawn_face(120, 120, 60, 60, 30), 960, 300, 300, seed=0)
    assert find_face(picture) is not None
    third: Grey = np.asarray(
        cv2.resize(picture, (320, 320), interpolation=cv2.INTER_AREA), np.uint8
    )
    assert find_face(third) is None


@pytest.mark.parametrize("centre", [(0.5, 0.42), (0.42, 0.5)])
@pytest.mark.parametrize(
    ("yaw", "overlap", "covered"), [(0, 0.7, 0.95), (45, 0.6, 0.8), (60, 0.4, 0.6), (-60, 0.4, 0.6)]
)
def test_a_drawn_head_is_found_where_it_is(
    centre: tuple[float, float], yaw: float, overlap: float, covered: float
) -> None:
    scene = Scene(width=128, height=128, centre=centre)
    picture, mask = render(Person(), yaw=yaw, pitch=0, scene=scene)
    face = find_face(picture)
    assert face is not None
    found = box_masks([head_around(face)], 128, 128)[0].numpy()
    assert (found & mask).sum() / (found | mask).sum() > overlap
    assert (found & mask).sum() / mask.sum() > covered
    assert find_face(np.full_like(picture, 90)) is None


@pytest.mark.parametrize("corner", [(45, 55), (355, 55), (45, 240), (355, 240)])
def test_a_face_at_the_edge_of_a_picture_is_in_the_middle_of_its_crop(
    corner: tuple[int, int],
) -> None:
    """And as large as elsewhere: what the picture does not show is its edge, drawn out."""
    picture = drawn_face(400, 300, *corner, 40)
    box = find_face(picture)
    assert box is not None
    found = crop(picture, "face", crop_params(96, margin=1.0))
    larger = np.pad(picture, 200, mode="edge")
    around = _with_margin(Box(*(edge + 200 for edge in box)), 1.0)
    assert np.array_equal(found, cut_out(larger, around, crop_params(96)))
    # A third of the crop is the face, wherever it was.
    face = crop(picture, "face", crop_params(32, margin=0.0))
    assert np.abs(found[32:64, 32:64].astype(int) - face).mean() < 12


def test_a_picture_that_is_all_face_gets_its_margin() -> None:
    scene = Scene(width=320, height=320, centre=(0.5, 0.5))
    wide, _ = render(Person(), yaw=0, pitch=0, scene=scene)
    box = find_face(wide)
    assert box is not None
    tight = wide[box.top - 10 : box.bottom + 10, box.left - 10 : box.right + 10]
    assert find_face(tight) is not None
    found = crop(tight, "face", crop_params(64, margin=0.5))
    # Half of the crop is face, as of every other picture: around it are the picture's edges.
    assert (found[:6] == found[:1]).all()
    assert (found[-6:] == found[-1:]).all()


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3)])
def test_what_is_outside_a_picture_is_its_edge_drawn_out(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = cut_out(picture, Box(-8, 20, 56, 84), crop_params(64))
    assert np.array_equal(found[:20, 8:], picture[20:, :56])
    assert np.array_equal(found[20:, 8:], np.broadcast_to(picture[-1, :56], (44, 56, *shape[2:])))
    assert (found[:, :8] == found[:, 8:9]).all()


def test_a_part_that_rounding_moved_over_the_edge_is_the_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    part = (-1e-12, -1e-12, 64 + 1e-12, 64 + 1e-12)
    assert np.array_equal(cut_out(picture, part, crop_params(64)), picture)


@pytest.mark.parametrize(
    ("face", "margin", "expected"),
    [
        (Box(40, 40, 60, 60), 0.0, Box(40, 40, 60, 60)),
        (Box(40, 40, 60, 60), 0.5, Box(30, 30, 70, 70)),
        (Box(0, 0, 20, 20), 0.5, Box(-10, -10, 30, 30)),
        (Box(180, 80, 200, 100), 0.5, Box(170, 70, 210, 110)),
        (Box(40, 45, 60, 55), 0.0, Box(40, 40, 60, 60)),
    ],
)
def test_margins_by_hand(face: Box, margin: float, expected: Box) -> None:
    assert _with_margin(face, margin) == expected


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (4, 4, Box(0, 0, 4, 4)),
        (7, 4, Box(1, 0, 5, 4)),
        (4, 9, Box(0, 2, 4, 6)),
        (1, 5, Box(0, 2, 1, 3)),
    ],
)
def test_centre_square_by_hand(width: int, height: int, expected: Box) -> None:
    assert centre_square(width, height) == expected


def test_a_part_of_a_face_is_none() -> None:
    def of_height(height: int, picture: int = 100) -> Looked:
        return looked(Box(10, 10, 30, 10 + height), (picture, picture))

    looks = {
        "low": of_height(23),
        "raised": of_height(25),
        "usual": of_height(40),
        "high": of_height(50),
        # As high as the others for a picture half as large.
        "half as large": of_height(20, picture=50),
        "nothing": Looked((100, 100), None),
        # There is nothing to compare it with.
        "of somebody else": of_height(10),
    }
    person = dict.fromkeys(looks, "ann") | {"of somebody else": "bob"}
    found = without_parts(looks, person)
    assert found == looks | {"low": Looked((100, 100), None)}
    assert without_parts({"nothing": looks["nothing"]}, person) == {"nothing": looks["nothing"]}


def test_a_photograph_without_a_face_is_cut_where_its_person_s_others_are_by_hand() -> None:
    looks = {
        "low": looked(Box(20, 40, 40, 60)),
        # The same place in a copy twice as large.
        "large": looked(Box(40, 60, 80, 100), (200, 400)),
        "right": looked(Box(60, 10, 80, 30)),
        "lost": NOTHING,
        "stranger": looked(Box(100, 20, 120, 40)),
        "nobody": NOTHING,
    }
    person = dict.fromkeys(looks, "ann") | {"stranger": "bob", "nobody": "cai"}
    found = face_places(looks, person, crop_params(32, margin=0.5))
    # A face and half of it on every side, in fractions of 200 columns and 100 rows.
    assert found["low"] == pytest.approx((0.05, 0.3, 0.25, 0.7))
    assert found["large"] == pytest.approx((0.05, 0.2, 0.25, 0.6))
    assert found["right"] == pytest.approx((0.25, 0.0, 0.45, 0.4))
    assert found["stranger"] == pytest.approx((0.45, 0.1, 0.65, 0.5))
    # Edge by edge the middle one of three.
    assert found["lost"] == pytest.approx((0.05, 0.2, 0.25, 0.6))
    # Nothing is known of cai: the centre square.
    assert found["nobody"] == pytest.approx((0.25, 0.0, 0.75, 1.0))


@pytest.mark.parametrize(
    ("width", "height", "radius"), [(24, 30, 7), (32, 30, 8), (30, 36, 9), (36, 36, 10)]
)
def test_a_small_picture_is_enlarged_first(width: int, height: int, radius: int) -> None:
    assert find_face(drawn_face(width, height, width // 2, height // 2, radius)) is not None
