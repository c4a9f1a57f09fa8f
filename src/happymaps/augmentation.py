"""Training images that change each time they are seen, and their truth with them."""

import math
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from happymaps.datasets import LabelledImages
from happymaps.images.boxes import Box, ellipse
from happymaps.params import MIRRORED_POSES, POSES, AugmentParams

Image = NDArray[np.uint8]

UNCHANGED = AugmentParams(
    mirror=False,
    turn=0,
    nod=0,
    background=0,
    shift=0,
    scale=0,
    rotation=0,
    brightness=0,
    contrast=0,
    gamma=0,
    light=0,
    blur=0,
    noise=0,
    hide=0,
)

_STRAIGHT, _LEFT, _RIGHT, _UP = (POSES.index(pose) for pose in ("straight", "left", "right", "up"))

# Of the largest angle: a head that is turned or raised by less has no clear pose.
_LEAST_TURN = 0.55
_TURNED, _RAISED = 0.2, 0.12  # share of the straight heads
_BACKGROUNDS = 256  # to choose from
_COVERS = 64
_LONGEST = 3  # largest aspect ratio of what hides a part
_SOFT = 0.2  # of a head's ellipse: how wide its edge is when the background changes
_STRETCH = 0.1  # logarithm of the largest change of the aspect ratio that goes with `scale`
# Of shadows: how wide their edges are and how far from the centre, in halves of the image, and how
# much darker than between light and shadow it is there at most.
_EDGES, _OFF_CENTRE, _DARKEST = (0.05, 0.5), 0.3, 0.9
# Pixels wide and high: up to here images are of little but detail, which a linear interpolation
# blurs; above, a cubic one takes six times as long for nothing.
_SMALL = 64
_NOISES = 64  # fields of noise to choose from, for drawing them takes longer than a training step
_SHADES = np.linspace(0, 1, 256)
_BORDERS = (cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT, cv2.BORDER_CONSTANT)


class Augmenter:
    """Draws changed copies of images.

    Args:
        images: (N, C, H, W), with their truth; all that is learned from, and nothing else.
        heads: where the head of each is, None where that is not known; None for nobody's.
        params: which changes, and how large.
        seed: of the backgrounds, of the noise, and of what hides parts. Which copies are drawn is
            up to each call.
    """

    def __init__(
        self,
        images: LabelledImages,
        heads: Sequence[Box | None] | None,
        params: AugmentParams,
        seed: int,
    ) -> None:
        self._params = params
        # (N, H, W, C), as OpenCV has them.
        self._images = np.ascontiguousarray(images.images.permute(0, 2, 3, 1).numpy())
        self._kinds = images.kinds().numpy()
        self._mirrored = np.array(MIRRORED_POSES if images.are_faces else range(len(images.names)))
        rng = np.random.default_rng(seed)
        shape = self._images.shape[1:]
        known = heads if heads is not None else [None] * len(images)
        self._heads = [
            head if head is not None and _is_seen(head, shape) else None for head in known
        ]
        self._backgrounds = (
            _backgrounds(self._images, self._heads, rng) if params.background else []
        )
        self._noise = rng.standard_normal((_NOISES, *shape), np.float32) if params.noise else None
        self._covers = [_texture(shape, rng) for _ in range(_COVERS if params.hide else 0)]

    def __call__(self, rows: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Copies of some images, each changed in its own way.

        Args:
            rows: (n,) int64, their numbers.
            rng: of the changes.

        Returns:
            (n, C, H, W) uint8 images and (n,) int64 numbers of their poses or objects.
        """
        changed = [self._changed(row, rng) for row in rows.tolist()]
        images = np.stack([image for image, _ in changed])
        kinds = torch.tensor([kind for _, kind in changed], dtype=torch.int64)
        return torch.from_numpy(images).permute(0, 3, 1, 2), kinds

    def _changed(self, row: int, rng: np.random.Generator) -> tuple[Image, int]:
        params = self._params
        image, kind, head = self._images[row], int(self._kinds[row]), self._heads[row]
        if head is not None and kind == _STRAIGHT:
            image, kind = _perhaps_turned(image, head, params, rng)
        if head is not None and rng.random() < params.background:
            background = self._backgrounds[rng.integers(len(self._backgrounds))]
            image = before(image, head, background)
        mirrored = params.mirror and rng.random() < 0.5
        if mirrored or params.shift or params.scale or params.rotation:
            image = _placed(image, mirrored, params, rng)
        kind = int(self._mirrored[kind]) if mirrored else kind
        if params.hide and rng.random() < 0.5:
            cover = self._covers[rng.integers(_COVERS)]
            image = _partly_hidden(image, cover, rng.uniform(0, params.hide), rng)
        if params.blur:
            # Half of the images stay sharp.
            sigma = max(0.0, rng.uniform(-1, 1)) * params.blur * image.shape[0]
            image = _blurred(image, sigma)
        if params.brightness or params.contrast or params.gamma:
            image = _toned(image, params, rng)
        if params.light and rng.random() < 0.5:
            image = _lit_somehow(image, params.light, rng)
        if self._noise is not None:
            field = self._noise[rng.integers(_NOISES)]
            image = _to_bytes(image + field * (rng.uniform(0, params.noise) * 255))
        return image, kind


def _is_seen(head: Box, shape: tuple[int, ...]) -> bool:
    """Whether something of a head is in an image of `shape` (H, W, C)."""
    height, width, _ = shape
    across = min(head.right, width) - max(head.left, 0)
    down = min(head.bottom, height) - max(head.top, 0)
    return across > 0 and down > 0


def _perhaps_turned(
    image: Image, head: Box, params: AugmentParams, rng: np.random.Generator
) -> tuple[Image, int]:
    chance = rng.random()
    part = rng.uniform(_LEAST_TURN, 1)
    if params.turn and chance < _TURNED:
        angle = params.turn * part * (1 if rng.integers(2) else -1)
        return turned(image, head, angle), _LEFT if angle > 0 else _RIGHT
    if params.nod and chance > 1 - _RAISED:
        return turned(image, head, params.nod * part, upwards=True), _UP
    return image, _STRAIGHT


def turned(image: Image, head: Box, angle: float, *, upwards: bool = False) -> Image:
    """Turn a head that looks straight as if it were an ellipsoid; what is around it stays.

    The side that comes into view was not photographed: it is the edge, drawn out. Up to about 30
    degrees that passes for a turned head. After the face profiling of Zhu et al. 2016 ("Face
    alignment across large poses: a 3D solution"), with the simplest of surfaces.

    Args:
        image: (H, W, C) uint8.
        head: the box around the head, in pixels.
        angle: degrees to the subject's left, which is the picture's right.
        upwards: the angle is one to which the head is raised.

    Returns:
        (H, W, C) uint8.
    """
    if upwards:
        # The same on its side.
        on_side = Box(head.top, head.left, head.bottom, head.right)
        return turned(image.transpose(1, 0, 2), on_side, -angle).transpose(1, 0, 2)
    height, width = image.shape[:2]
    top, bottom = max(head.top, 0), min(head.bottom, height)
    left, right = max(head.left, 0), min(head.right, width)
    if top >= bottom or left >= right:
        return image
    rows = np.arange(top, bottom, dtype=np.float32)[:, None]
    columns = np.arange(left, right, dtype=np.float32)
    down = (2 * rows + 1 - head.top - head.bottom) / (head.bottom - head.top)
    half = (head.right - head.left) / 2 * np.sqrt(np.clip(1 - down**2, 1e-6, None))
    centre = (head.left + head.right - 1) / 2
    across = (columns - centre) / half
    # Longitudes on a slice of the ellipsoid: where a pixel is, and where it was before the turn.
    longitude = np.arcsin(np.clip(across, -1, 1)) - math.radians(angle)
    origin = np.sin(np.clip(longitude, -math.pi / 2, math.pi / 2))
    on_head = (np.abs(across) < 1) & (np.abs(down) < 1)
    source = np.where(on_head, centre + origin * half, columns)
    own_rows = np.broadcast_to(rows, source.shape)
    part = cv2.remap(image, source, own_rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    changed = image.copy()
    changed[top:bottom, left:right] = _shaped(part, changed[top:bottom, left:right])
    return changed


def before(image: Image, head: Box, background: Image) -> Image:
    """Put a head in front of another background; shoulders are lost with the old one.

    Args:
        image: (H, W, C) uint8.
        head: the box around its head, in pixels, which is cut out as a soft ellipse.
        background: (H, W, C) uint8.

    Returns:
        (H, W, C) uint8.
    """
    share = np.clip((1 + 0.75 * _SOFT - ellipse(head, *image.shape[:2])) / _SOFT, 0, 1)[..., None]
    return _to_bytes(share * image + (1 - share) * background)


def _lit_somehow(image: Image, largest: float, rng: np.random.Generator) -> Image:
    """Half of the times light falls off evenly, half of the times it ends in a shadow."""
    strength, direction = rng.uniform(0, largest), rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.5:
        return lit(image, strength, direction)
    edge = np.exp(rng.uniform(*np.log(_EDGES)))
    strength = min(2 * strength, _DARKEST)
    return lit(image, strength, direction, edge=edge, place=rng.uniform(-1, 1) * _OFF_CENTRE)


def lit(
    image: Image,
    strength: float,
    direction: float,
    *,
    edge: float | None = None,
    place: float = 0,
) -> Image:
    """Light an image from one side.

    Args:
        image: (H, W, C) uint8.
        strength: by what part the brightest place gains, and the darkest loses.
        direction: of the light, in radians; 0 is the picture's right, a quarter turn is below.
        edge: how wide the edge of the shadow is, in halves of the image; None for no shadow, but
            light that falls off evenly.
        place: where that edge is, in halves of the image from its centre towards the light.

    Returns:
        (H, W, C) uint8.
    """
    height, width = image.shape[:2]
    sine, cosine = math.sin(direction), math.cos(direction)
    down = _from_side_to_side(height)[:, None] * np.float32(sine)
    across = _from_side_to_side(width) * np.float32(cosine)
    if edge is None:
        share = (down + across) / np.float32(abs(sine) + abs(cosine))
    else:
        share = np.tanh((down + across - np.float32(place)) / np.float32(edge))
    return _to_bytes(image * (1 + np.float32(strength) * share)[..., None])


@cache
def _from_side_to_side(pixels: int) -> NDArray[np.float32]:
    return np.linspace(-1, 1, pixels, dtype=np.float32)


def _placed(image: Image, mirrored: bool, params: AugmentParams, rng: np.random.Generator) -> Image:
    """Mirror, rotate, scale and shift in one go, about the centre."""
    height, width = image.shape[:2]
    angle = math.radians(rng.uniform(-1, 1) * params.rotation)
    largest = np.log1p(params.scale)
    scale = np.exp(rng.uniform(-largest, largest))
    aspect = np.exp(rng.uniform(-1, 1) * min(largest, _STRETCH))
    shift = rng.uniform(-1, 1, 2) * params.shift * (width, height)
    if not (params.scale or params.rotation):
        # By whole pixels: between them an image is blurred, and small ones are of little else.
        shift = np.rint(shift)
    border = _BORDERS[rng.integers(len(_BORDERS))]
    placed = cv2.warpAffine(
        image,
        _about_the_centre(scale, angle, -aspect if mirrored else aspect, shift, width, height),
        (width, height),
        flags=cv2.INTER_CUBIC if max(width, height) <= _SMALL else cv2.INTER_LINEAR,
        borderMode=border,
        borderValue=[float(rng.integers(256))] * 4,
    )
    return _shaped(placed, image)


def _about_the_centre(
    scale: float, angle: float, stretch: float, shift: NDArray[np.float64], width: int, height: int
) -> NDArray[np.float64]:
    """(2, 3): stretch along the rows, turn and scale about the centre, and shift.

    Spelled out, for products of matrices this small take longer than moving the pixels.
    """
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    across, down = cosine * stretch, sine * stretch
    x, y = (width - 1) / 2, (height - 1) / 2
    return np.array(
        [
            [across, -sine, x + shift[0] - (across * x - sine * y)],
            [down, cosine, y + shift[1] - (down * x + cosine * y)],
        ]
    )


def _partly_hidden(image: Image, cover: Image, share: float, rng: np.random.Generator) -> Image:
    """Lay a rectangle of a drawn texture over an image; it may hang over the edge."""
    aspect = np.exp(rng.uniform(-1, 1) * np.log(_LONGEST))
    size = np.sqrt(share * np.array([aspect, 1 / aspect])) * image.shape[:2]
    start = rng.uniform(0, image.shape[:2]) - size / 2
    top, left = np.rint(np.maximum(start, 0)).astype(int)
    bottom, right = np.rint(start + size).astype(int)
    hidden = image.copy()
    hidden[top:bottom, left:right] = cover[top:bottom, left:right]
    return hidden


def _blurred(image: Image, sigma: float) -> Image:
    if sigma < 0.1:
        return image
    return _shaped(cv2.GaussianBlur(image, (0, 0), sigma), image)


def _toned(image: Image, params: AugmentParams, rng: np.random.Generator) -> Image:
    """Change brightness, contrast about the mean, and gamma."""
    gamma = math.exp(rng.uniform(-1, 1) * params.gamma)
    contrast = math.exp(rng.uniform(-1, 1) * params.contrast)
    channels = image.shape[2]
    mean = sum(cv2.mean(image)[:channels]) / channels / 255
    shades = mean + contrast * (_SHADES**gamma - mean) + rng.uniform(-1, 1) * params.brightness
    return _shaped(cv2.LUT(image, _to_bytes(255 * shades)), image)


def _backgrounds(
    images: Image, heads: Sequence[Box | None], rng: np.random.Generator
) -> list[Image]:
    """Half of them what is around the heads of others, half drawn by chance."""
    known = [
        row
        for row, head in enumerate(heads)
        # Where a head fills the picture, no background could be drawn over it.
        if head is not None and not _hole(head, images.shape[1:3]).all()
    ]
    backgrounds = [_texture(images.shape[1:], rng) for _ in range(_BACKGROUNDS // 2)]
    for row in rng.choice(known, _BACKGROUNDS // 2) if known else []:
        backgrounds.append(_part(_without_head(images[row], heads[row]), rng))
    return backgrounds


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> Image:
    """Clouds, whose detail falls with its frequency as in photographs, and some rectangles."""
    height, width, channels = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    spectrum = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
    clouds = np.fft.irfft2(spectrum / frequency ** rng.uniform(0.8, 2.2), s=(height, width))
    image = rng.uniform(30, 220) + clouds / clouds.std() * rng.uniform(10, 70)
    for _ in range(rng.integers(6)):
        top, left = rng.integers(height), rng.integers(width)
        down, across = rng.integers(1, height), rng.integers(1, width)
        image[top : top + down // 2, left : left + across // 2] = rng.uniform(0, 255)
    return np.repeat(_to_bytes(image)[..., None], channels, axis=2)


def _without_head(image: Image, head: Box) -> Image:
    hole = _hole(head, image.shape[:2]).astype(np.uint8)
    return _shaped(cv2.inpaint(image, hole, 3, cv2.INPAINT_TELEA), image)


def _hole(head: Box, size: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.asarray(ellipse(head, *size) < 1 + _SOFT)


def _part(image: Image, rng: np.random.Generator) -> Image:
    """A part of a background, enlarged, so that nobody's place can be told by what is behind."""
    height, width = image.shape[:2]
    share = rng.uniform(0.5, 1)
    down, across = round(height * share), round(width * share)
    top, left = rng.integers(height - down + 1), rng.integers(width - across + 1)
    part = image[top : top + down, left : left + across]
    enlarged = _shaped(cv2.resize(part, (width, height)), image)
    return np.asarray(enlarged[:, ::-1] if rng.random() < 0.5 else enlarged)


def _to_bytes(image: NDArray[np.floating]) -> Image:
    # Rounds to the nearest, and to 255 what is above.
    return _shaped(cv2.convertScaleAbs(np.maximum(image, 0)), image)


def _shaped(image: NDArray[np.generic], like: NDArray[np.generic]) -> Image:
    """OpenCV drops a single channel."""
    return np.asarray(image, np.uint8).reshape(like.shape)
