"""Changed copies of images whose changes can be measured: blobs, dots, and one shade of grey."""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from happymaps import augmentation
from happymaps.augmentation import UNCHANGED, Augmenter, before, lit, turned
from happymaps.datasets import LabelledImages
from happymaps.images.boxes import Box
from happymaps.params import POSES, AugmentParams, Params
from toys import toy_objects

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

SIZE = 64
# Not in the middle of the image, and higher than wide: half axes of 16 and 20 pixels.
HEAD = Box(20, 12, 52, 52)
MIDDLE = np.array([35.5, 31.5])  # of the head: column, row
COPIES = 300
# A large value of every change.
LARGE: dict[str, float] = {
    "mirror": True, "turn": 40, "nod": 40, "background": 1, "shift": 0.1, "scale": 0.3,
    "rotation": 10, "brightness": 0.2, "contrast": 0.4, "gamma": 0.4, "light": 0.4, "blur": 0.05,
    "noise": 0.05, "hide": 0.3,
}  # fmt: skip
NEED_HEADS = {"turn", "nod", "background"}


def only(**changes: float) -> AugmentParams:
    """Nothing else is changed."""
    return AugmentParams.model_validate(UNCHANGED.model_dump() | changes)


def faces_of(images: Bytes, poses: Sequence[str]) -> LabelledImages:
    """Faces of (N, H, W) or (N, H, W, C) images."""
    channels = images if images.ndim == 4 else images[..., None]
    truth = pd.DataFrame({"image": "a", "left": 0, "pose": list(poses), "subject": "b"})
    return LabelledImages(torch.from_numpy(channels.transpose(0, 3, 1, 2).copy()), truth)


def copies_of(
    image: Bytes,
    params: AugmentParams,
    *,
    pose: str = "straight",
    head: Box | None = None,
    count: int = COPIES,
    seed: int = 0,
) -> tuple[Bytes, list[str]]:
    """Many copies of an (H, W) or (H, W, C) image, and their poses."""
    augment = Augmenter(faces_of(image[None], [pose]), [head], params, seed=seed)
    images, numbers = augment(
        torch.zeros(count, dtype=torch.int64), np.random.default_rng([seed, 1])
    )
    changed = images.permute(0, 2, 3, 1).numpy().reshape(count, *image.shape)
    return changed, [POSES[number] for number in numbers.tolist()]


def noise_image(seed: int = 0, channels: int | None = None) -> Bytes:
    shape = (SIZE, SIZE) if channels is None else (SIZE, SIZE, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def flat(shade: int) -> Bytes:
    return np.full((SIZE, SIZE), shade, np.uint8)


def ramp(lowest: int, highest: int) -> Bytes:
    """Shades that grow along the rows and the columns."""
    shades = np.linspace(lowest, highest, SIZE * SIZE).round().astype(np.uint8)
    return shades.reshape(SIZE, SIZE)


def blob(across: float, down: float, angle: float = 0) -> Bytes:
    """A Gaussian in the middle, with its standard deviations along its axes, in pixels."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    shades = 250 * np.exp(-((u / across) ** 2 + (v / down) ** 2) / 2)
    return np.asarray(np.round(shades), np.uint8)


def moments(image: Bytes, border: int = 12) -> tuple[Floats, Floats]:
    """Centre (column, row) and covariance of what is bright, away from the image's border."""
    inner = image[border : SIZE - border, border : SIZE - border].astype(float)
    weight = inner / inner.sum()
    rows, columns = np.mgrid[border : SIZE - border, border : SIZE - border].astype(float)
    centre = np.array([(weight * columns).sum(), (weight * rows).sum()])
    x, y = columns - centre[0], rows - centre[1]
    cross = (weight * x * y).sum()
    return centre, np.array([[(weight * x * x).sum(), cross], [cross, (weight * y * y).sum()]])


def distance(head: Box = HEAD) -> Floats:
    """(SIZE, SIZE): 0 in the middle of a head, 1 on the ellipse in its box."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    across = (x - (head.left + head.right) / 2) / ((head.right - head.left) / 2)
    down = (y - (head.top + head.bottom) / 2) / ((head.bottom - head.top) / 2)
    return np.asarray(np.hypot(across, down))


def head_with_a_nose() -> Bytes:
    """A grey ellipse in front of noise, and a bright dot in its middle."""
    image = noise_image() // 2
    image[distance() < 1] = 150
    column, row = (MIDDLE + 0.5).astype(int)
    image[row - 1 : row + 1, column - 1 : column + 1] = 255
    return image


def nose(image: Bytes) -> Floats:
    """Column and row of what is brighter than the head, from its middle."""
    inside = np.where(distance() < 1, image.astype(float), 0)
    rows, columns = np.nonzero(inside > 165)
    weight = inside[rows, columns] - 150
    place = [np.average(columns, weights=weight), np.average(rows, weights=weight)]
    return np.asarray(place - MIDDLE)


# --- turned heads


def test_a_turn_to_the_left_moves_the_nose_to_the_pictures_right() -> None:
    image = head_with_a_nose()
    assert nose(image) == pytest.approx([0, 0], abs=0.01)
    # By hand: what was in the middle of an ellipsoid is then half an axis away, for sin 30 is 1/2.
    for angle, expected in ((30, 8), (-30, -8), (15, 16 * np.sin(np.pi / 12))):
        moved = turned(image[..., None], HEAD, angle)[..., 0]
        assert nose(moved) == pytest.approx([expected, 0], abs=0.4)


def test_a_raised_head_has_its_nose_higher_and_a_lowered_one_lower() -> None:
    image = head_with_a_nose()
    for angle, expected in ((30, -10), (-30, 10)):
        moved = turned(image[..., None], HEAD, angle, upwards=True)[..., 0]
        assert nose(moved) == pytest.approx([0, expected], abs=0.4)


def test_what_is_nearer_to_the_edge_moves_less() -> None:
    # Two stripes, in the middle and halfway to the edge that the head turns to.
    image = flat(100)
    image[:, 35:37] = 200
    image[:, 43:45] = 250
    row = turned(image[..., None], HEAD, 20.0)[31, :, 0].astype(int)
    middle, near = (int(np.abs(row - shade).argmin()) for shade in (200, 250))
    assert 4 <= middle - 35.5 <= 7
    assert 0 < near - 43.5 < middle - 35.5


@pytest.mark.parametrize("upwards", [False, True])
@pytest.mark.parametrize("angle", [-45, 20, 60])
def test_a_turn_leaves_what_is_around_the_head(angle: float, upwards: bool) -> None:
    image = noise_image()
    changed = turned(image[..., None], HEAD, angle, upwards=upwards)[..., 0]
    outside = distance() >= 1
    assert np.array_equal(changed[outside], image[outside])
    assert (changed != image)[distance() < 0.9].mean() > 0.9


@pytest.mark.parametrize("upwards", [False, True])
def test_a_turn_by_nothing_changes_nothing(upwards: bool) -> None:
    image = noise_image()[..., None]
    changed = turned(image, HEAD, 0.0, upwards=upwards)
    assert np.abs(changed.astype(int) - image).max() <= 1


@pytest.mark.parametrize(
    ("head", "upwards"), [(Box(-12, 5, 40, 60), False), (Box(10, -12, 40, 40), True)]
)
def test_a_head_that_is_cut_off_is_turned_without_a_gap(head: Box, upwards: bool) -> None:
    # Nothing is known of what is past the edge: the edge is continued, no black is drawn in.
    for angle in (-30, 30):
        changed = turned(flat(200)[..., None], head, angle, upwards=upwards)
        assert changed.min() == 200


def test_an_image_without_its_head_stays_as_it_is() -> None:
    image = noise_image()[..., None]
    assert np.array_equal(turned(image, Box(-40, 5, -2, 60), 30.0), image)


def test_turned_and_raised_copies_say_where_they_look() -> None:
    image = head_with_a_nose()
    copies, poses = copies_of(image, only(turn=30, nod=30), head=HEAD)
    assert set(poses) == {"straight", "left", "right", "up"}
    for copy, pose in zip(copies, poses, strict=True):
        across, down = nose(copy)
        if pose == "straight":
            assert np.array_equal(copy, image)
        elif pose == "up":
            # At least by half of the largest angle: less would be no clear pose.
            assert -20 * np.sin(np.pi / 6) - 0.5 < down < -20 * np.sin(np.pi / 12) + 0.5
            assert abs(across) < 0.1
        else:
            way = across if pose == "left" else -across
            assert 16 * np.sin(np.pi / 12) - 0.5 < way < 16 * np.sin(np.pi / 6) + 0.5
            assert abs(down) < 0.1


def test_a_part_of_the_straight_heads_is_turned_and_another_raised() -> None:
    def shares(**changes: float) -> dict[str, float]:
        _, poses = copies_of(head_with_a_nose(), only(**changes), head=HEAD, count=2000)
        return {str(k): v for k, v in pd.Series(poses).value_counts(normalize=True).items()}

    side, up = augmentation._TURNED / 2, augmentation._RAISED
    straight = 1 - 2 * side - up
    assert straight > 0.4
    assert shares(turn=30) == pytest.approx(
        {"straight": straight + up, "left": side, "right": side}, abs=0.03
    )
    assert shares(nod=30) == pytest.approx({"straight": 1 - up, "up": up}, abs=0.03)
    assert shares(turn=30, nod=30) == pytest.approx(
        {"straight": straight, "left": side, "right": side, "up": up}, abs=0.03
    )


@pytest.mark.parametrize("pose", ["left", "right", "up"])
def test_heads_that_are_turned_already_are_not_turned_again(pose: str) -> None:
    image = head_with_a_nose()
    copies, poses = copies_of(image, only(turn=40, nod=40), pose=pose, head=HEAD)
    assert (copies == image).all()
    assert set(poses) == {pose}


def test_only_the_head_that_is_known_is_turned() -> None:
    images = np.stack([head_with_a_nose(), head_with_a_nose()])
    faces = faces_of(images, ["straight", "straight"])
    augment = Augmenter(faces, [None, HEAD], only(turn=40, nod=40), seed=0)
    rows = torch.arange(2).repeat(100)
    copies, poses = augment(rows, np.random.default_rng(0))
    unknown = rows == 0
    assert torch.equal(copies[unknown], faces.images[:1].expand(100, -1, -1, -1))
    assert (poses[unknown] == POSES.index("straight")).all()
    assert (poses[~unknown] != POSES.index("straight")).any()


# --- mirrored copies


@pytest.mark.parametrize("head", [Box(-40, 5, -2, 60), Box(20, 12, 20, 52), Box(5, SIZE, 9, 90)])
def test_a_head_that_is_not_in_the_image_is_none_and_keeps_its_pose(head: Box) -> None:
    image = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE)
    images, poses = copies_of(image, only(turn=40, nod=40, background=1), head=head, count=30)
    assert set(poses) == {"straight"}
    assert (images == image).all()


def test_exactly_the_flipped_copies_have_left_and_right_swapped() -> None:
    images = np.stack([noise_image(number) for number in range(8)])
    poses = [POSES[number % 4] for number in range(8)]
    augment = Augmenter(faces_of(images, poses), None, only(mirror=True), seed=0)
    rows = torch.arange(8).repeat(40)
    copies, numbers = augment(rows, np.random.default_rng(0))
    flips = 0
    swapped = {"straight": "straight", "left": "right", "right": "left", "up": "up"}
    for copy, row, number in zip(copies[:, 0].numpy(), rows, numbers, strict=True):
        is_same = np.array_equal(copy, images[row])
        is_flipped = np.array_equal(copy, images[row][:, ::-1])
        assert is_same != is_flipped
        assert POSES[number] == (swapped[poses[row]] if is_flipped else poses[row])
        flips += is_flipped
    assert flips / len(rows) == pytest.approx(0.5, abs=0.1)


def test_a_head_that_is_turned_and_mirrored_looks_where_its_label_says() -> None:
    # In the middle of the image, so that its mirror is in the same place.
    head = Box(16, 12, 48, 52)
    image = np.roll(head_with_a_nose(), -4, axis=1)
    copies, poses = copies_of(image, only(turn=30, mirror=True), head=head, count=400)
    sides = [nose(np.roll(copy, 4, axis=1))[0] for copy in copies]
    assert {pose for side, pose in zip(sides, poses, strict=True) if side > 2} == {"left"}
    assert {pose for side, pose in zip(sides, poses, strict=True) if side < -2} == {"right"}
    # Without the turn, which moves by 4 pixels or more, the pose is straight.
    assert {pose for side, pose in zip(sides, poses, strict=True) if abs(side) < 2} == {"straight"}


# --- other backgrounds


def test_another_background_leaves_the_head_and_hides_the_rest() -> None:
    image, background = noise_image(0)[..., None], noise_image(1)[..., None]
    changed = before(image, HEAD, background)
    assert np.array_equal(changed[distance() < 0.9], image[distance() < 0.9])
    assert np.array_equal(changed[distance() > 1.2], background[distance() > 1.2])


def test_a_heads_edge_is_soft() -> None:
    white, black = flat(255)[..., None], flat(0)[..., None]
    outwards = distance().argsort(axis=None, kind="stable")
    shades = before(white, HEAD, black).ravel()[outwards].astype(int)
    assert (np.diff(shades) <= 0).all()
    assert ((shades > 20) & (shades < 235)).sum() > 50


def test_a_share_of_the_images_gets_another_background_behind_the_same_head() -> None:
    image = noise_image()
    copies, poses = copies_of(image, only(background=0.3), pose="left", head=HEAD, count=600)
    assert set(poses) == {"left"}
    assert (copies == image)[:, distance() < 0.9].all()
    other = (copies != image)[:, distance() > 1.2].mean(axis=1)
    assert set(np.unique(other > 0.5)) == {False, True}
    assert (other > 0.5).mean() == pytest.approx(0.3, abs=0.06)
    # The others are left as they are.
    assert (other[other <= 0.5] == 0).all()


def test_half_of_the_backgrounds_are_what_is_around_others_without_their_heads() -> None:
    # What is around the only head is dark, and the head itself is bright.
    image = flat(10)
    image[distance() < 1] = 250
    copies, _ = copies_of(image, only(background=1), head=HEAD, count=600)
    around = copies[:, distance() > 1.2].astype(int)
    from_a_photograph = np.abs(around - 10).max(axis=1) <= 5
    assert from_a_photograph.mean() == pytest.approx(0.5, abs=0.08)
    # The drawn ones are more than one shade.
    assert (around[~from_a_photograph].std(axis=1) > 5).all()


def test_a_head_that_fills_its_picture_is_no_background() -> None:
    faces = faces_of(np.stack([flat(10), flat(250)]), ["straight", "straight"])
    whole = Box(-SIZE, -SIZE, 2 * SIZE, 2 * SIZE)
    augment = Augmenter(faces, [HEAD, whole], only(background=1), seed=0)
    copies, _ = augment(torch.zeros(COPIES, dtype=torch.int64), np.random.default_rng(0))
    around = copies[:, 0].numpy()[:, distance() > 1.2].astype(int)
    dark, bright = (np.abs(around - shade).max(axis=1) <= 5 for shade in (10, 250))
    assert dark.mean() == pytest.approx(0.5, abs=0.08)
    assert not bright.any()


@pytest.mark.parametrize("heads", [None, [None, None]])
def test_without_known_heads_there_are_no_turns_and_no_backgrounds(
    heads: list[Box | None] | None,
) -> None:
    faces = faces_of(np.stack([noise_image(0), noise_image(1)]), ["straight", "left"])
    augment = Augmenter(faces, heads, only(background=1, turn=40, nod=40), seed=0)
    rows = torch.arange(2).repeat(50)
    copies, poses = augment(rows, np.random.default_rng(0))
    assert torch.equal(copies, faces.images[rows])
    assert torch.equal(poses, faces.kinds()[rows])


def test_objects_are_mirrored_and_stay_what_they_are() -> None:
    given = toy_objects(20)
    augment = Augmenter(given, None, only(mirror=True), seed=0)
    rows = torch.arange(20).repeat(20)
    copies, kinds = augment(rows, np.random.default_rng(0))
    assert torch.equal(kinds, given.kinds()[rows])
    flipped = (copies != given.images[rows]).flatten(1).any(dim=1)
    assert torch.equal(copies[flipped], given.images[rows].flip(3)[flipped])
    assert flipped.double().mean() == pytest.approx(0.5, abs=0.08)


def test_contrast_of_a_coloured_image_changes_about_the_mean_of_all_its_colours() -> None:
    given = toy_objects(1)
    image = given.images.clone()
    image[:] = torch.tensor([150, 100, 80]).view(1, 3, 1, 1)
    coloured = LabelledImages(image, given.truth)
    augment = Augmenter(coloured, None, only(contrast=0.3), seed=0)
    copies, _ = augment(torch.zeros(50, dtype=torch.int64), np.random.default_rng(0))
    assert copies[:, :, 0, 0].double().mean(dim=1).numpy() == pytest.approx(110, abs=1)
    assert copies.float().std() > 5


# --- where an image is put


def test_an_image_is_moved_by_at_most_its_share_in_every_direction() -> None:
    image = blob(3, 3)
    copies, _ = copies_of(image, only(shift=0.1))
    ways = np.array([moments(copy, border=8)[0] for copy in copies]) - (SIZE - 1) / 2
    largest = 0.1 * SIZE
    assert np.abs(ways).max() < largest + 0.1
    assert (ways.max(axis=0) > 0.8 * largest).all()
    assert (ways.min(axis=0) < -0.8 * largest).all()
    # One direction tells nothing of the other, and nothing else is changed.
    assert abs(_alike(ways[:, 0], ways[:, 1])) < 0.2
    sizes = np.array([np.diag(moments(copy, border=8)[1]) for copy in copies])
    assert sizes == pytest.approx(np.broadcast_to(9, sizes.shape), rel=0.1)


def test_a_wider_image_is_moved_by_its_width_and_its_height() -> None:
    image = np.zeros((32, 96), np.uint8)
    image[14:18, 46:50] = 250
    ways = []
    # Bright borders come up to 4 rows and 12 columns into it.
    for copy in copies_of(image, only(shift=0.125))[0]:
        inner = copy[5:27, 13:83].astype(float)
        # Nothing between two pixels: as sharp as before.
        assert set(np.unique(inner)) == {0, 250}
        rows, columns = np.mgrid[5:27, 13:83]
        ways.append([(inner * columns).sum() / inner.sum(), (inner * rows).sum() / inner.sum()])
    furthest = np.abs(np.array(ways) - [47.5, 15.5]).max(axis=0)
    assert (furthest <= [12, 4]).all()
    assert (furthest > [10, 3.4]).all()


def test_an_image_grows_and_shrinks_about_its_centre() -> None:
    copies, _ = copies_of(blob(4, 4), only(scale=0.3))
    found = [moments(copy) for copy in copies]
    centres = np.array([centre for centre, _ in found])
    assert centres == pytest.approx(np.full(centres.shape, (SIZE - 1) / 2), abs=0.2)
    covariances = np.array([covariance for _, covariance in found])
    assert np.abs(covariances[:, 0, 1]).max() < 0.3  # not rotated
    across, down = np.sqrt(covariances[:, [0, 1], [0, 1]] / 16).T
    assert 1 / 1.3 - 0.03 < down.min() < 0.82
    assert 1.22 < down.max() < 1.3 + 0.03
    # Faces get a little narrower or wider with it: by a tenth at most.
    aspect = across / down
    assert np.exp(-0.1) - 0.03 < aspect.min() < 0.95
    assert 1.05 < aspect.max() < np.exp(0.1) + 0.03


def test_small_details_outlast_a_change_of_size() -> None:
    noise = np.random.default_rng(0).integers(40, 216, (SIZE, SIZE), dtype=np.uint8)
    inner = slice(12, -12)
    kept = [
        copy[inner, inner].astype(float).std() / noise.astype(float).std()
        for copy in copies_of(noise, only(scale=0.1), count=30)[0]
    ]
    # Between two pixels the mean of them has 0.7 of their spread, and of four 0.5.
    assert np.mean(kept) > 0.75


def test_large_images_are_put_where_small_ones_are() -> None:
    # They are interpolated otherwise.
    changes = only(mirror=True, shift=0.1, scale=0.2, rotation=10)
    small = blob(6, 3, angle=0.5)
    large = np.asarray(cv2.resize(small, None, fx=4, fy=4), np.uint8)
    for of_small, of_large in zip(
        copies_of(small, changes, count=30)[0], copies_of(large, changes, count=30)[0], strict=True
    ):
        shrunk = cv2.resize(of_large, of_small.shape, interpolation=cv2.INTER_AREA)
        (centre, spread), (wanted, wanted_spread) = moments(np.asarray(shrunk)), moments(of_small)
        assert centre == pytest.approx(wanted, abs=0.3)
        assert spread == pytest.approx(wanted_spread, abs=1.5)


def test_an_image_is_rotated_both_ways_about_its_centre() -> None:
    copies, _ = copies_of(blob(6, 3), only(rotation=10))
    found = [moments(copy) for copy in copies]
    centres = np.array([centre for centre, _ in found])
    assert centres == pytest.approx(np.full(centres.shape, (SIZE - 1) / 2), abs=0.2)
    angles = []
    for _, covariance in found:
        values, vectors = np.linalg.eigh(covariance)
        assert np.sqrt(values) == pytest.approx([3, 6], rel=0.05)  # not scaled
        angles.append(np.rad2deg(np.arctan(vectors[1, 1] / vectors[0, 1])))
    assert -10.5 < min(angles) < -9
    assert 9 < max(angles) < 10.5


# --- light and shades


def test_brightness_adds_the_same_everywhere() -> None:
    image = ramp(100, 150)
    added = copies_of(image, only(brightness=0.2))[0].astype(int) - image
    assert (np.ptp(added, axis=(1, 2)) <= 1).all()
    amounts = added.mean(axis=(1, 2))
    assert -0.2 * 255 - 1 <= amounts.min() < -45
    assert 45 < amounts.max() <= 0.2 * 255


def test_contrast_spreads_the_shades_about_their_mean() -> None:
    image = ramp(100, 150)
    copies, _ = copies_of(image, only(contrast=0.4))
    assert copies.mean(axis=(1, 2)) == pytest.approx(np.full(len(copies), image.mean()), abs=1)
    factors = copies.std(axis=(1, 2)) / image.std()
    assert np.exp(-0.4) - 0.03 < factors.min() < np.exp(-0.35)
    assert np.exp(0.35) < factors.max() < np.exp(0.4) + 0.03
    for copy, factor in zip(copies, factors, strict=True):
        line = image.mean() + factor * (image - image.mean())
        assert np.abs(copy - line).max() < 1.5


def test_gamma_bends_the_shades_between_black_and_white() -> None:
    image = ramp(0, 255)
    exponents = []
    for copy in copies_of(image, only(gamma=0.4))[0]:
        assert (copy[0, 0], copy[-1, -1]) in {(0, 255), (0, 254)}
        middle = image == 128
        exponent = np.log((copy[middle].mean() + 0.5) / 255) / np.log(128 / 255)
        assert np.abs(copy - 255 * (image / 255) ** exponent).max() < 2.5
        exponents.append(exponent)
    assert np.exp(-0.4) - 0.02 < min(exponents) < np.exp(-0.35)
    assert np.exp(0.35) < max(exponents) < np.exp(0.4) + 0.02


@pytest.mark.parametrize("change", ["brightness", "contrast", "gamma"])
def test_a_brighter_shade_stays_brighter_up_to_white(change: str) -> None:
    copies, _ = copies_of(ramp(0, 255), only(**{change: 0.5}))
    shades = copies.reshape(len(copies), -1).astype(int)
    assert (np.diff(shades, axis=1) >= 0).all()
    assert (shades[:, 0] == 0).any()
    assert (shades[:, -1] == 255).any()


@pytest.mark.parametrize(("change", "value"), [("light", 0.2), ("noise", 0.05)])
def test_white_and_black_are_not_passed(change: str, value: float) -> None:
    # A byte that went on counting would begin again at black.
    white, black = (copies_of(flat(shade), only(**{change: value}))[0] for shade in (255, 0))
    assert white.min() > 255 * 0.4
    assert (white[:, 20:44, 20:44] == 255).mean() > 0.3
    assert black.max() < 255 * 0.3


def test_light_from_the_right_brightens_the_right_edge() -> None:
    image = flat(100)[..., None]
    right = lit(image, 0.2, 0.0)[..., 0].astype(int)
    assert (right == right[0]).all()
    # By hand.
    assert np.array_equal(right[0], np.rint(100 + 20 * np.linspace(-1, 1, SIZE)))
    below = lit(image, 0.2, np.pi / 2)[..., 0].astype(int)
    assert below == pytest.approx(right.T, abs=1)
    left = lit(image, 0.2, np.pi)[..., 0].astype(int)
    assert left == pytest.approx(right[:, ::-1], abs=1)
    aslant = lit(image, 0.2, np.pi / 4)[..., 0]
    # Nowhere is it more than stated, not in the corner that is nearest to the light either.
    assert (aslant[0, 0], aslant[-1, -1]) == (80, 120)
    assert np.array_equal(lit(noise_image()[..., None], 0.0, 1.0), noise_image()[..., None])


def test_a_shadow_has_an_edge_where_it_is_put() -> None:
    image = flat(100)[..., None]
    shadow = lit(image, 0.6, 0.0, edge=0.05, place=0.25)[..., 0].astype(int)
    assert (shadow == shadow[0]).all()
    assert (shadow[0, 0], shadow[0, -1]) == (40, 160)
    places = np.linspace(-1, 1, SIZE)
    # By hand: a tanh has 0.96 of its height two widths beside its middle.
    assert (shadow[0, places < 0.15] <= 43).all()
    assert (shadow[0, places > 0.35] >= 157).all()
    middle = np.abs(places - 0.25).argmin()
    assert shadow[0, middle - 1] < 100 <= shadow[0, middle + 1]
    below = lit(image, 0.6, np.pi / 2, edge=0.05, place=0.25)[..., 0].astype(int)
    assert below == pytest.approx(shadow.T, abs=1)


def test_light_is_a_share_of_a_shade_so_that_black_stays_black() -> None:
    image = np.where(np.arange(SIZE) % 2, 100, 0).astype(np.uint8) * np.ones((SIZE, 1), np.uint8)
    changed = lit(image[..., None], 0.4, 0.3)[..., 0]
    assert (changed[:, ::2] == 0).all()
    assert changed[:, 1].max() < 100 < changed[:, -1].min()


def test_half_of_the_images_are_lit_from_all_sides() -> None:
    copies, _ = copies_of(flat(100), only(light=0.4), count=600)
    is_lit = np.ptp(copies, axis=(1, 2)) > 0
    assert is_lit.mean() == pytest.approx(0.5, abs=0.08)
    shades = copies.astype(int)[is_lit]
    across = shades[:, 32, -1] - shades[:, 32, 0]
    down = shades[:, -1, 32] - shades[:, 0, 32]
    # The brighter half of both axes, and of no more than twice the stated strength on each side.
    for way in (across, down):
        assert -162 <= way.min() < -120
        assert 120 < way.max() <= 162
    # Half of them fall off evenly from the middle; where a shadow ends is up to chance.
    even = np.abs(shades[:, 31:33, 31:33] - 100).max(axis=(1, 2)) <= 3
    assert even.mean() == pytest.approx(0.55, abs=0.1)
    assert -82 <= across[even].min() < -60


def test_blur_lowers_the_variance_and_keeps_the_mean() -> None:
    image = noise_image()
    copies, _ = copies_of(image, only(blur=0.05), count=600)
    is_sharp = (copies == image).all(axis=(1, 2))
    # Half of the images, and those whose blur is less than a tenth of a pixel.
    assert is_sharp.mean() == pytest.approx(0.5 + 0.5 * 0.1 / 3.2, abs=0.06)
    blurred = copies[~is_sharp]
    assert (blurred.var(axis=(1, 2)) < image.var()).all()
    assert blurred.mean(axis=(1, 2)) == pytest.approx(np.full(len(blurred), image.mean()), rel=0.02)
    assert (copies_of(flat(90), only(blur=0.05))[0] == 90).all()


def test_the_largest_blur_is_a_fraction_of_the_image() -> None:
    copies, _ = copies_of(blob(4, 4), only(blur=0.05))
    added = np.array([np.diag(moments(copy, border=4)[1]) - 16 for copy in copies])
    # Variances of Gaussians add up.
    assert added.max() <= 1.05 * (0.05 * SIZE) ** 2
    assert added.max() > 0.7 * (0.05 * SIZE) ** 2


def test_noise_has_up_to_the_stated_deviation() -> None:
    copies, _ = copies_of(flat(128), only(noise=0.1))
    noise = copies.astype(float) - 128
    deviations = noise.std(axis=(1, 2))
    assert 22 < deviations.max() < 25.5 * 1.05
    assert deviations.min() < 3
    assert deviations.mean() == pytest.approx(25.5 / 2, rel=0.1)
    assert np.abs(noise.mean(axis=(1, 2))).max() < 2
    # Neighbours have nothing in common, and copies do not either, but by chance.
    loud = noise[deviations.argsort()[-20:]]
    assert abs(_alike(loud[:, :, 1:], loud[:, :, :-1])) < 0.05
    others = [_alike(one, other) for one, other in itertools.pairwise(loud)]
    assert np.median(np.abs(others)) < 0.1


def _alike(one: Floats, other: Floats) -> float:
    """Their correlation, of numbers whose mean is about 0."""
    return float((one * other).mean() / np.sqrt((one**2).mean() * (other**2).mean()))


# --- something before a part of the image


def test_a_rectangle_is_hidden_of_half_of_the_images_and_nothing_else_changes() -> None:
    image = noise_image()
    copies, _ = copies_of(image, only(hide=0.3), count=1000)
    hidden = copies != image
    some = hidden.any(axis=(1, 2))
    assert some.mean() == pytest.approx(0.5, abs=0.05)
    for mask in hidden[some]:
        rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
        inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        # By chance a cover has the very shade that it hides.
        assert (~inside).sum() <= 2 + 0.05 * inside.size
        assert inside.size < 0.35 * image.size
    # Everywhere, but at the edges more seldom than in the middle.
    often = hidden.mean(axis=0)
    assert often.min() > 0.01
    assert often[24:40, 24:40].mean() > 1.2 * often[:8, :8].mean()


def test_nothing_is_hidden_by_the_very_smallest_share() -> None:
    image = noise_image()
    copies, _ = copies_of(image, only(hide=1e-9))
    assert (copies == image).all()


# --- what holds for every change


def test_nothing_changed_gives_the_very_same_images() -> None:
    faces = faces_of(np.stack([noise_image(number) for number in range(4)]), POSES)
    augment = Augmenter(faces, [HEAD] * 4, UNCHANGED, seed=0)
    rows = torch.tensor([3, 0, 0, 2, 1])
    images, poses = augment(rows, np.random.default_rng(0))
    assert torch.equal(images, faces.images[rows])
    assert poses.tolist() == [POSES.index(POSES[row]) for row in rows.tolist()]


def test_every_field_of_the_params_is_tested_here() -> None:
    assert set(LARGE) == set(AugmentParams.model_fields)
    assert set(UNCHANGED.model_dump().values()) == {0}


@pytest.mark.parametrize("change", LARGE)
def test_each_change_alone_changes_images_but_their_truth_only_if_it_has_to(change: str) -> None:
    image = head_with_a_nose()
    params = only(**{change: LARGE[change]})
    copies, poses = copies_of(image, params, head=HEAD, count=60)
    assert (copies != image).any(axis=(1, 2)).any()
    assert len({copy.tobytes() for copy in copies}) > 1
    if change not in {"turn", "nod"}:
        assert set(poses) == {"straight"}
    _, sides = copies_of(image, params, pose="left", head=HEAD, count=60)
    assert set(sides) == ({"left", "right"} if change == "mirror" else {"left"})


@pytest.mark.parametrize("change", sorted(set(LARGE) - NEED_HEADS))
def test_changes_that_need_no_head_do_without_one(change: str) -> None:
    image = head_with_a_nose()
    copies, _ = copies_of(image, only(**{change: LARGE[change]}), head=None, count=60)
    assert (copies != image).any()


@pytest.mark.parametrize("change", ["all", *LARGE])
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(change: str) -> None:
    params = only(**(LARGE if change == "all" else {change: LARGE[change]}))
    faces = faces_of(np.stack([noise_image(0), head_with_a_nose()]), ["left", "straight"])
    rows = torch.arange(2).repeat(30)

    def drawn(seed: int, rng_seed: int) -> tuple[bytes, list[int]]:
        augment = Augmenter(faces, [HEAD, HEAD], params, seed)
        images, poses = augment(rows, np.random.default_rng(rng_seed))
        return images.contiguous().numpy().tobytes(), poses.tolist()

    assert drawn(0, 0) == drawn(0, 0)
    assert drawn(0, 0) != drawn(0, 1)
    # Backgrounds, noise and covers are drawn beforehand, from a seed of their own.
    beforehand = change in {"all", "background", "noise", "hide"}
    assert (drawn(0, 0) != drawn(1, 0)) is beforehand


def test_a_second_call_goes_on_where_the_first_one_ended() -> None:
    augment = Augmenter(faces_of(noise_image()[None], ["up"]), None, only(shift=0.1), seed=0)
    rng = np.random.default_rng(0)
    rows = torch.zeros(5, dtype=torch.int64)
    parts = [augment(rows, rng)[0] for _ in range(2)]
    whole = augment(rows.repeat(2), np.random.default_rng(0))[0]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(*parts)


def test_the_images_learned_from_are_not_touched(params: Params) -> None:
    faces = faces_of(np.stack([noise_image(0), head_with_a_nose()]), ["left", "straight"])
    images = faces.images.clone()
    augment = Augmenter(faces, [HEAD, HEAD], params.networks["generalist"].augment, seed=0)
    for seed in range(3):
        augment(torch.arange(2).repeat(20), np.random.default_rng(seed))
    assert torch.equal(faces.images, images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("change", ["all", *LARGE])
def test_copies_have_the_shape_of_their_images(change: str, channels: int) -> None:
    params = only(**(LARGE if change == "all" else {change: LARGE[change]}))
    image = noise_image(channels=channels)
    faces = faces_of(image[None], ["straight"])
    augment = Augmenter(faces, [HEAD], params, seed=0)
    images, poses = augment(torch.zeros(20, dtype=torch.int64), np.random.default_rng(0))
    assert images.shape == (20, channels, SIZE, SIZE)
    assert images.dtype == torch.uint8
    assert poses.shape == (20,)
    assert poses.dtype == torch.int64


def test_colours_are_changed_together() -> None:
    # Three channels alike stay alike, wherever they are put and however lit.
    image = np.repeat(head_with_a_nose()[..., None], 3, axis=2)
    quiet = {key: value for key, value in LARGE.items() if key != "noise"}
    copies, _ = copies_of(image, only(**quiet), head=HEAD, count=60)
    assert (copies != image).any(axis=(1, 2, 3)).all()
    assert np.array_equal(copies[..., 0], copies[..., 1])
    assert np.array_equal(copies[..., 0], copies[..., 2])


def test_what_is_hidden_is_of_any_size_up_to_the_largest() -> None:
    image = noise_image()
    shares = (copies_of(image, only(hide=0.3))[0] != image).mean(axis=(1, 2))
    assert np.quantile(shares[shares > 0], 0.1) < 0.04
    assert 0.2 < shares.max() < 0.35


def test_what_comes_in_at_the_borders_is_now_the_images_own_and_now_a_shade() -> None:
    copies, _ = copies_of(flat(100), only(shift=0.1), count=600)
    other = (copies != 100).any(axis=(1, 2))
    # One of three kinds of borders has a shade of its own.
    assert other.mean() == pytest.approx(1 / 3, abs=0.06)


def test_no_shadow_is_quite_black() -> None:
    copies, _ = copies_of(flat(100), only(light=0.8), count=600)
    assert 10 <= copies.min() < 20
    assert 180 < copies.max() <= 190
