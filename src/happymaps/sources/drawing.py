"""Draws people: a small renderer of heads that have an identity and turn in three dimensions.

A person is a bust sculpted from smooth solids and covered with points.  A picture turns the
points, keeps the nearest one for every pixel, shades it and puts it in front of a room.

Coordinates of the bust: x to the subject's left (the right side of the picture), y up, z towards
the camera, in decimetres, with the middle of the eyes near the origin of x and y.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

Expression = Literal["neutral", "happy", "sad", "angry"]
Eyes = Literal["open", "sunglasses"]
HairStyle = Literal["short", "fringe", "receding", "bald", "curly", "bun", "bob", "long"]
Beard = Literal["none", "moustache", "goatee", "full"]
Pattern = Literal["plain", "stripes", "checks", "dots", "open collar"]
Room = Literal["office", "kitchen"]

Array = NDArray[np.floating[Any]]
Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Layer = Callable[[Array, Array | float], None]  # lays a shade over the skin, by coverage
Box = Callable[[float, float, float, float, float], None]  # left, top, width, height, shade

SUPERSAMPLING = 2
CAMERA_DISTANCE = 12.0
HEAD_CENTRE = np.array([0.0, -0.1, 0.0], np.float32)  # every point of a head is seen from here
ATLAS = np.array([0.0, -0.5, -0.15], np.float32)  # the joint the head turns on
EYE_X, EYE_Y, MOUTH_Y = 0.32, 0.0, -0.70


@dataclass(frozen=True)
class Person:
    """One identity.  Lengths are in decimetres or factors near 1, albedos between 0 and 1."""

    width: float = 1.0
    height: float = 1.0
    jaw: float = 1.0
    chin: float = 0.0
    cheeks: float = 1.0
    brow: float = 1.0
    nose_length: float = 0.0
    nose_width: float = 1.0
    nose_bridge: float = 0.0
    lips: float = 1.0
    eye_size: float = 1.0
    ears: float = 1.0
    skin: float = 0.5
    hair: float = 0.1
    hair_style: HairStyle = "short"
    beard: Beard = "none"
    shoulders: float = 1.0
    shirt: float = 0.5
    accent: float = 0.2
    pattern: Pattern = "plain"
    texture: int = 0  # seeds the strands of the hair and the mottling of the skin


@dataclass(frozen=True)
class Scene:
    """Camera, light and room of one picture.

    Sizes are in pixels, `centre` is the place of the head as a fraction of width and height,
    `light` points towards the lamp, angles are in degrees.
    """

    width: int = 128
    height: int = 120
    scale: float = 23.0  # pixels per decimetre
    centre: tuple[float, float] = (0.5, 0.42)
    light: tuple[float, float, float] = (-0.7, 0.5, 0.6)
    lamp: float = 1.6
    ambient: float = 0.2
    body_yaw: float = 0.0
    camera_height: float = 0.0  # how far the camera looks down on the body
    room: Room = "office"
    room_shift: tuple[float, float] = (0.0, 0.0)  # fractions of the height of the picture
    room_light: float = 1.0
    noise: float = 1.5  # standard deviation in grey levels
    noise_seed: int = 0


class Surface(NamedTuple):
    """Points of a skin: `points` and `normals` (N, 3), `albedo` and `gloss` (N,), float32."""

    points: Array
    normals: Array
    albedo: Array
    gloss: Array


class Mood(NamedTuple):
    """What an expression does to a face, in decimetres."""

    corner: float  # lift of the corners of the mouth
    widen: float
    gap: float  # opening between the lips, filled with teeth
    brow_inner: float
    brow_outer: float
    lids: float  # opening of the eyes, as a factor
    fold: float  # depth of the folds beside the mouth, 0..1
    frown: float  # depth of the furrow between the brows, 0..1


MOODS: dict[Expression, Mood] = {
    "neutral": Mood(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.25, 0.0),
    "happy": Mood(0.13, 0.09, 0.10, 0.03, 0.03, 0.8, 1.0, 0.0),
    "sad": Mood(-0.12, -0.02, 0.0, 0.12, -0.07, 0.8, 0.45, 0.25),
    "angry": Mood(-0.05, -0.03, 0.0, -0.11, 0.06, 0.75, 0.6, 1.0),
}


def rotation(yaw: float, pitch: float, roll: float = 0.0) -> Array:
    """The (3, 3) matrix that turns a head, angles in degrees.

    Positive yaw turns the nose to the subject's left, positive pitch lifts it, positive roll
    tilts the crown to the subject's right.
    """
    (cy, cp, cr), (sy, sp, sr) = (f(np.radians([yaw, pitch, roll])) for f in (np.cos, np.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turn: Array = (about_y @ about_x @ about_z).astype(np.float32)
    return turn


def render(
    person: Person,
    *,
    yaw: float,
    pitch: float,
    roll: float = 0.0,
    expression: Expression = "neutral",
    eyes: Eyes = "open",
    scene: Scene | None = None,
) -> tuple[Picture, Mask]:
    """Take one picture.

    Angles are those of the head against the camera, in degrees: positive yaw is the subject's
    left (the nose moves to the right of the picture), positive pitch is up.

    Returns the grey picture, uint8 (height, width), and the mask of the head with hair, ears and
    glasses but without neck and body, bool (height, width).

    Raises:
        ValueError: for an unknown expression or unknown eyes.
    """
    if expression not in MOODS:
        raise ValueError(f"unknown expression {expression!r}, expected one of {list(MOODS)}")
    if eyes not in get_args(Eyes):
        raise ValueError(f"unknown eyes {eyes!r}, expected one of {list(get_args(Eyes))}")
    scene = scene or Scene()
    scale = scene.scale * SUPERSAMPLING
    # The footprint of a point is two pixels wide: this density leaves no holes between points.
    density = float(np.ceil(scale / 16) * 10)
    head = _turn(_sculpt_head(person, expression, eyes, density), rotation(yaw, pitch, roll))
    body = _turn(_sculpt_body(person, density), rotation(scene.body_yaw, -scene.camera_height))
    surface = Surface(*(np.concatenate(pair) for pair in zip(head, body, strict=True)))
    winner, depth = _nearest_points(surface, scene)
    light = _shade(surface, winner, depth, scene)
    seen = winner >= 0
    big = np.where(seen, light, _draw_room(scene))
    size = (scene.width, scene.height)
    small = cv2.resize(big, size, interpolation=cv2.INTER_AREA)
    is_head = (seen & (winner < len(head.points))).astype(np.float32)
    mask = cv2.resize(is_head, size, interpolation=cv2.INTER_AREA) >= 0.5
    grain = np.random.default_rng(scene.noise_seed).normal(0, scene.noise, small.shape)
    return np.clip(small * 255 + grain + 0.5, 0, 255).astype(np.uint8), mask


def render_all(pictures: Iterable[dict[str, Any]]) -> Iterator[tuple[Picture, Mask]]:
    """Take many pictures side by side, and give them in their order.

    Args:
        pictures: of each the arguments of `render`, by their names, `person` among them.

    Raises:
        ValueError: as `render`.
    """
    # Threads: NumPy and OpenCV release Python's lock.
    side_by_side = Parallel(n_jobs=-1, prefer="threads", return_as="generator")
    rendered: Iterator[tuple[Picture, Mask]] = side_by_side(
        delayed(render)(**picture) for picture in pictures
    )
    return rendered


def landmarks(
    person: Person, *, yaw: float, pitch: float, roll: float, scene: Scene
) -> NDArray[np.float64]:
    """Where the usual 68 points of a face are in the picture that `render` takes.

    They are those of an average face, as wide and high as the person's, and also there where they
    are hidden.

    Returns:
        (68, 2), columns and rows in pixels.
    """
    points = _landmarks_in_space() * np.array([person.width, person.height, 1], np.float32)
    turned = _map(rotation(yaw, pitch, roll), points - ATLAS) + ATLAS
    column, row = _project(turned, scene)
    return np.stack([column, row], axis=1).astype(np.float64) / SUPERSAMPLING


def _landmarks_in_space() -> Array:
    """Jaw, brows, nose, eyes and mouth (68, 3) of an average face, from the picture's left."""
    round_jaw = np.linspace(-np.pi / 2, np.pi / 2, 17)
    jaw = [0.68 * np.sin(round_jaw), -1.1 * np.cos(round_jaw), 0.8 * np.cos(round_jaw) - 0.05]
    brow = np.linspace(0.54, 0.12, 5)
    across = np.concatenate([-brow, brow[::-1]])
    brows = [across, np.full(10, 0.2), 0.85 - 0.5 * np.abs(across)]
    bridge = [np.zeros(4), np.linspace(0.02, -0.4, 4), np.linspace(0.86, 1.1, 4)]
    wings = [np.linspace(-0.13, 0.13, 5), np.full(5, -0.47), np.full(5, 0.95)]
    round_eye = np.linspace(np.pi, -np.pi, 6, endpoint=False)
    eyes = [
        [EYE_X * side + 0.12 * np.cos(round_eye), EYE_Y + 0.05 * np.sin(round_eye), np.full(6, 0.8)]
        for side in (-1, 1)
    ]
    lips = []
    for count, width, height in ((12, 0.26, 0.1), (8, 0.18, 0.04)):
        round_lips = np.linspace(np.pi, -np.pi, count, endpoint=False)
        lips.append(
            [
                width * np.cos(round_lips),
                MOUTH_Y + height * np.sin(round_lips),
                0.88 - 0.5 * np.abs(width * np.cos(round_lips)),
            ]
        )
    groups = [jaw, brows, bridge, wings, *eyes, *lips]
    return np.concatenate([np.stack(group, axis=1) for group in groups]).astype(np.float32)


# ---------------------------------------------------------------------------------- sculpting


def _ellipsoid(p: Array, centre: tuple[float, ...], radii: tuple[float, ...]) -> Array:
    """Approximate signed distance to an ellipsoid."""
    r = np.array(radii, np.float32)
    q = (p - np.array(centre, np.float32)) / r
    length = np.sqrt(np.einsum("ij,ij->i", q, q))
    q /= r
    distance: Array = length * (length - 1) / (np.sqrt(np.einsum("ij,ij->i", q, q)) + 1e-6)
    return distance


def _capsule(
    p: Array, a: tuple[float, ...], b: tuple[float, ...], radius_a: float, radius_b: float
) -> Array:
    """Approximate signed distance to a capsule that tapers from `a` to `b`."""
    start, axis = np.array(a, np.float32), np.subtract(b, a).astype(np.float32)
    q = p - start
    t = np.clip(q @ axis / (axis @ axis), 0, 1)
    q -= t[:, None] * axis
    distance: Array = np.sqrt(np.einsum("ij,ij->i", q, q))
    return distance - (radius_a + (radius_b - radius_a) * t)


def _blend(a: Array, b: Array, k: float) -> Array:
    """Union of two solids with a fillet of size `k`."""
    h = np.maximum(k - np.abs(a - b), 0) / k
    union: Array = np.minimum(a, b) - h * h * (k / 4)
    return union


def _carve(a: Array, b: Array, k: float) -> Array:
    """The solid `a` without `b`, with a fillet of size `k`."""
    return -_blend(-a, b, k)


def _head_distance(p: Array, person: Person) -> Array:
    """Approximate signed distance from points (N, 3) to the bare head without ears."""
    # Both halves of a face are alike, so one side is enough.
    p = p * np.array([1 / person.width, 1 / person.height, 1], np.float32)
    p[:, 0] = np.abs(p[:, 0])
    jaw, tip = person.jaw, 1.10 + person.nose_length
    d = _ellipsoid(p, (0, 0.32, -0.14), (0.77, 0.83, 0.97))
    d = _blend(d, _ellipsoid(p, (0, -0.20, 0.20), (0.61, 0.85, 0.68)), 0.25)
    d = _blend(d, _capsule(p, (0.50 * jaw, -0.62, 0.05), (0.16, -0.97, 0.62), 0.14, 0.16), 0.35)
    d = _blend(d, _ellipsoid(p, (0, -0.98, 0.70 + person.chin), (0.24, 0.17, 0.17)), 0.2)
    front = np.flatnonzero(p[:, 2] > 0.35)
    q, f = p[front], d[front]
    f = _blend(f, _ellipsoid(q, (0.36, -0.25, 0.58), (0.22, 0.17, 0.22 * person.cheeks)), 0.2)
    f = _carve(f, _ellipsoid(q, (0.31, -0.02, 1.02), (0.21, 0.13, 0.25)), 0.18)
    brow = 0.07 * person.brow
    f = _blend(f, _capsule(q, (0.10, 0.17, 0.82), (0.46, 0.17, 0.64), brow, brow), 0.12)
    f = _blend(f, _ellipsoid(q, (EYE_X, EYE_Y, 0.65), (0.17, 0.13, 0.17)), 0.05)
    bridge = 0.86 + person.nose_bridge
    f = _blend(f, _capsule(q, (0, 0.08, bridge), (0, -0.38, tip - 0.06), 0.07, 0.12), 0.10)
    wing = 0.13 * person.nose_width
    f = _blend(f, _ellipsoid(q, (0, -0.40, tip), (0.9 * wing, 0.1, 0.11)), 0.08)
    f = _blend(f, _ellipsoid(q, (wing, -0.44, 0.95), (0.085, 0.08, 0.12)), 0.14)
    lips = 0.06 * person.lips
    f = _blend(f, _capsule(q, (0, -0.65, 0.90), (0.20, -0.69, 0.78), lips, 0.03), 0.08)
    f = _blend(f, _capsule(q, (0, -0.77, 0.88), (0.17, -0.73, 0.78), lips, 0.03), 0.08)
    d[front] = f
    return d


def _directions(density: float) -> Array:
    """Unit vectors (rows, columns, 3) around the vertical axis, closer together in the face."""
    rows, columns = int(3.4 * density), int(5.0 * density)
    polar = np.linspace(0.01, np.pi - 0.01, rows)[:, None]
    turn = np.linspace(-np.pi, np.pi, columns)[None, :]
    turn = turn - 0.35 * np.sin(turn)
    shape = [np.sin(polar) * np.sin(turn), np.cos(polar) + 0 * turn, np.sin(polar) * np.cos(turn)]
    return np.stack(shape, axis=-1).astype(np.float32)


@lru_cache(maxsize=4)
def _head_radius(person: Person, density: float) -> Array:
    """Distances (rows, columns) from the centre of the head to its skin along `_directions`."""
    rays = _directions(density)
    flat = rays.reshape(-1, 3)
    radius = np.full(len(flat), 1.35, np.float32)
    for _ in range(14):
        radius -= 0.9 * _head_distance(HEAD_CENTRE + radius[:, None] * flat, person)
    # Under the nose the skin recedes faster than the points can follow.
    return _blur(radius.reshape(rays.shape[:2]), density / 45)


def _normals(grid: Array) -> Array:
    """Outward unit normals (rows, columns, 3) of a grid whose columns run round a solid."""
    down = np.gradient(grid, axis=0)
    along = np.gradient(grid, axis=1)
    normals = np.cross(down, along)
    return _unit(normals)


def _unit(vectors: Array) -> Array:
    length = np.sqrt(np.sum(vectors * vectors, axis=-1, keepdims=True))
    unit: Array = vectors / np.maximum(length, np.float32(1e-9))
    return unit


def _blur(values: Array, sigma: float) -> Array:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), np.float32)


def _surface(grid: Array, albedo: Array | float, gloss: float, keep: Mask | None = None) -> Surface:
    """Cover a grid of points (rows, columns, 3) with a skin, where `keep` says so."""
    shape = grid.shape[:2]
    rows = np.ones(shape, bool) if keep is None else keep
    shades = np.broadcast_to(np.float32(albedo), shape)[rows]
    return Surface(
        grid[rows].astype(np.float32),
        _normals(grid)[rows].astype(np.float32),
        shades.astype(np.float32),
        np.full(len(shades), gloss, np.float32),
    )


def _join(parts: list[Surface]) -> Surface:
    return Surface(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def _turn(surface: Surface, matrix: Array) -> Surface:
    """The surface turned about the joint below the head."""
    points = _map(matrix, surface.points - ATLAS) + ATLAS
    return surface._replace(points=points, normals=_map(matrix, surface.normals))


def _map(matrix: Array, vectors: Array) -> Array:
    """The products of `matrix` (3, 3) with vectors (N, 3)."""
    # As fast as BLAS, and the order of the additions does not depend on its threads.
    return np.asarray(cv2.transform(vectors[:, None], matrix), np.float32)[:, 0]


def _soft(value: Array, edge: float) -> Array:
    """Coverage 0..1 of the region where `value` is positive, with an edge of that width."""
    coverage: Array = np.clip(value / edge + 0.5, 0, 1)
    return coverage


def _bump(value: Array, width: float) -> Array:
    bump: Array = np.exp(-((value / width) ** 2))
    return bump


def _ripple(p: Array, seed: int, frequency: tuple[float, float, float], waves: int = 8) -> Array:
    """Smooth noise of about unit deviation at points (..., 3)."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 1, (waves, 3)) * frequency
    phases = rng.uniform(0, 2 * np.pi, waves)
    total = np.zeros(p.shape[:-1], np.float32)
    for vector, phase in zip(vectors.astype(np.float32), phases, strict=True):
        total += np.sin(p @ vector + np.float32(phase))
    return total / np.float32(np.sqrt(waves / 2))


# ----------------------------------------------------------------------------------- the head


@lru_cache(maxsize=16)
def _sculpt_head(person: Person, expression: Expression, eyes: Eyes, density: float) -> Surface:
    rays = _directions(density)
    radius = _head_radius(person, density)
    skin = HEAD_CENTRE + radius[..., None] * rays
    mood = MOODS[expression]
    paint = _paint_face(skin, person, mood)
    parts = [_surface(_move_face(skin, mood), paint, 0.12)]
    if person.hair_style not in ("long", "bob"):  # where hair covers the ears
        parts += [_ear(person, side, density) for side in (1.0, -1.0)]
    parts += _hair(rays, radius, person, density)
    if eyes == "sunglasses":
        parts += _sunglasses(skin, person, density)
    return _join(parts)


def _move_face(skin: Array, mood: Mood) -> Array:
    """Pull the skin of the cheeks and the chin as the mood does."""
    moved = skin.copy()
    x, y, z = np.moveaxis(skin, -1, 0)
    front = _soft(z - 0.4, 0.4)
    corner = front * _bump(np.abs(x) - 0.28, 0.14) * _bump(y - MOUTH_Y, 0.13)
    cheek = front * _bump(np.abs(x) - 0.36, 0.16) * _bump(y + 0.33, 0.16)
    chin = front * _soft(MOUTH_Y - 0.04 - y, 0.12)
    brow = front * _bump(np.abs(x) - 0.16, 0.14) * _bump(y - 0.18, 0.10)
    moved[..., 0] += np.sign(x) * corner * mood.widen
    moved[..., 1] += 0.4 * corner * mood.corner - 0.8 * chin * mood.gap
    moved[..., 1] += 0.5 * brow * mood.brow_inner
    moved[..., 2] += 0.5 * cheek * max(mood.corner, 0.0) + 0.08 * brow * mood.frown
    return moved


def _paint_face(skin: Array, person: Person, mood: Mood) -> Array:
    """Albedo (rows, columns) of the head: skin, eyes, brows, mouth and beard."""
    x, y, z = np.moveaxis(skin / np.array([person.width, person.height, 1], np.float32), -1, 0)
    side = np.abs(x)
    front = z > 0.3
    strands = _ripple(skin, person.texture, (24, 10, 24))
    albedo = person.skin * (1 + 0.035 * _ripple(skin, person.texture + 1, (4, 4, 4)))

    def layer(coverage: Array, shade: float | Array) -> None:
        nonlocal albedo
        albedo += np.where(front, coverage, 0) * (shade - albedo)

    # Shadows of the skin that the coarse relief cannot cast itself.
    layer(0.35 * _bump(side - EYE_X, 0.22) * _bump(y - 0.07, 0.08), 0.3 * person.skin)
    fold = 0.14 + 0.75 * (-0.42 - y)
    ends = _soft(-0.44 - y, 0.08) * _soft(y - MOUTH_Y - 0.05, 0.1)
    layer(0.55 * mood.fold * _bump(side - fold, 0.028) * ends, 0.3 * person.skin)
    layer(0.6 * mood.frown * _bump(side - 0.055, 0.025) * _bump(y - 0.17, 0.09), 0.2 * person.skin)
    nostril = _bump(side - 0.075 * person.nose_width, 0.035) * _bump(y + 0.485, 0.03)
    layer(nostril * _soft(z - 0.98, 0.1), 0.1 * person.skin)

    _paint_beard(layer, person, side, y, z, strands)
    _paint_mouth(layer, person, mood, side, y)
    _paint_eyes(layer, person, mood, x, y)

    along = (side - 0.12) / 0.42
    arch = 0.19 + 0.055 * np.sin(np.pi * np.clip(along, 0, 1) * 0.75)
    arch += mood.brow_inner * np.clip(1 - along, 0, 1) + mood.brow_outer * np.clip(along, 0, 1)
    thickness = 0.042 * person.brow * (1.1 - 0.6 * np.clip(along, 0, 1))
    brow = _soft(thickness - np.abs(y - arch), 0.03) * _soft(0.5 - np.abs(along - 0.5), 0.12)
    layer(0.9 * brow, min(person.hair, 0.28) * (0.8 + 0.1 * strands))
    return albedo


def _paint_eyes(layer: Layer, person: Person, mood: Mood, x: Array, y: Array) -> None:
    side = np.abs(x) - EYE_X
    half = 0.165 * person.eye_size
    across = side / half
    rim = np.clip(1 - across**2, 0, 1)
    upper = EYE_Y + 0.078 * person.eye_size * mood.lids * rim + 0.02 * across
    lower = EYE_Y - 0.055 * person.eye_size * (0.5 + 0.5 * mood.lids) * rim + 0.02 * across
    inside = _soft(upper - y, 0.025) * _soft(y - lower, 0.025) * _soft(1 - np.abs(across), 0.1)
    layer(inside, 0.25 + 0.55 * person.skin)
    iris = 0.074 * person.eye_size - np.hypot(side, y - EYE_Y - 0.008)
    layer(inside * _soft(iris, 0.025), 0.07)
    glint = 0.022 - np.hypot(x - np.sign(x) * EYE_X + 0.03, y - EYE_Y - 0.04)
    layer(inside * _soft(glint, 0.02), 1.0)
    width = _soft(1.1 - np.abs(across), 0.15)
    layer(width * _bump(y - upper - 0.008, 0.022), 0.04)
    layer(0.45 * width * _bump(y - lower, 0.016), 0.3 * person.skin)
    layer(0.4 * width * _bump(y - upper - 0.055, 0.018), 0.35 * person.skin)


def _paint_mouth(layer: Layer, person: Person, mood: Mood, side: Array, y: Array) -> None:
    half = 0.235 + mood.widen
    along = np.clip(side / half, 0, 1)
    line = MOUTH_Y + mood.corner * along**2 - 0.3 * mood.corner
    arc = np.sqrt(np.clip(1 - along**2, 0, 1))
    within = _soft(1 - side / half, 0.08)
    top = line + 0.5 * mood.gap * arc
    bottom = line - 0.5 * mood.gap * arc
    bow = 0.062 * person.lips * arc - 0.018 * _bump(side, 0.05)
    lip = 0.52 * person.skin
    layer(within * _soft(top + bow - y, 0.025) * _soft(y - top, 0.02), lip * 0.85)
    layer(
        within * _soft(y - bottom + 0.08 * person.lips * arc, 0.03) * _soft(bottom - y, 0.02), lip
    )
    if mood.gap:
        layer(within * _soft(top - y, 0.02) * _soft(y - bottom, 0.02), 0.8)
        layer(within * _bump(y - bottom, 0.018), 0.06)
    layer(within * _bump(y - top, 0.016), 0.05)
    layer(0.5 * _bump(side, 0.16) * _bump(y - bottom + 0.125, 0.03), 0.45 * person.skin)


def _paint_beard(
    layer: Layer, person: Person, side: Array, y: Array, z: Array, strands: Array
) -> None:
    if person.beard == "none":
        return
    moustache = _bump(y - MOUTH_Y - 0.11 + 0.3 * side**2, 0.05) * _soft(0.28 - side, 0.1)
    goatee = _soft(MOUTH_Y - 0.06 - y, 0.1) * _soft(0.24 - side, 0.12)
    cheeks = _soft(-0.42 + 0.35 * z - 0.25 - y + 0.25 * side, 0.15)
    shape = {
        "moustache": moustache,
        "goatee": np.maximum(moustache, goatee),
        "full": np.maximum(np.maximum(moustache, goatee), cheeks),
    }[person.beard]
    layer(0.85 * shape, person.hair * (1 + 0.2 * strands))


def _ear(person: Person, side: float, density: float) -> Surface:
    steps = max(int(0.9 * density), 8)
    polar = np.linspace(0.02, np.pi - 0.02, steps)[:, None]
    turn = np.linspace(-np.pi, np.pi, 2 * steps)[None, :]
    across, up = np.sin(polar) * np.sin(turn), np.cos(polar) + 0 * turn
    fore = np.sin(polar) * np.cos(turn)
    # The shell: a disc with a hollow in its outer face, broad on top and narrow at the lobe.
    size = person.ears
    rim = np.hypot(up, fore)
    hollow = np.where(across > 0, 0.5 * np.exp(-((rim / 0.55) ** 2)), 0)
    lean = np.radians(25)
    flat = np.stack(
        [0.08 * (across - 1.6 * hollow), 0.30 * size * up, 0.16 * size * fore * (1 + 0.3 * up)], -1
    )
    c, s = np.cos(lean), np.sin(lean)
    ear = flat @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    ear[..., 2] -= 0.10 * flat[..., 1] + 0.10
    ear += [0.79, -0.10, 0.0]
    ear *= [side * person.width, person.height, 1]
    if side < 0:
        ear = ear[:, ::-1]  # keeps the normals outward
    dark = hollow if side > 0 else hollow[:, ::-1]
    return _surface(ear, person.skin * (0.95 - 1.1 * dark), 0.1)


def _hair(rays: Array, radius: Array, person: Person, density: float) -> list[Surface]:
    style = person.hair_style
    if style == "bald":
        return []
    skin = HEAD_CENTRE + radius[..., None] * rays
    x, y, z = np.moveaxis(skin / np.array([person.width, person.height, 1], np.float32), -1, 0)
    side = np.abs(x)
    wave = _ripple(skin, person.texture + 2, (3, 3, 3))
    strands = _strands(rays, person.texture + 3)
    # How far a point lies behind the hairline; temples recede, sideburns come forward.
    behind = 0.95 * y - z + 0.06 + 0.03 * wave - 0.12 * _bump(side - 0.52, 0.2)
    behind += 0.35 * _bump(y - 0.05, 0.28) * _bump(side - 0.72, 0.25)
    if style in ("fringe", "bob"):
        behind += 0.42 * _soft(0.42 - side, 0.3) * (y > 0.2)
    if style == "receding":
        behind -= 0.38 * _soft(y - 0.3, 0.4) + 0.12 * _soft(z - 0.2, 0.4)
    thick = {"receding": 0.05, "bun": 0.06, "curly": 0.27, "long": 0.13, "bob": 0.13}
    lift = thick.get(style, 0.11) * (1 + 0.15 * wave)
    if style == "curly":
        lift += 0.035 * _ripple(skin, person.texture + 4, (13, 13, 13))
    else:
        lift += 0.008 * strands
    lift *= np.sqrt(np.clip(behind / 0.25, 0.06, 1))
    shade = person.hair * (1 + 0.22 * strands + 0.08 * wave)
    grid = HEAD_CENTRE + (radius + lift)[..., None] * rays
    parts = [_surface(grid, shade, 0.25, behind > 0)]
    if style == "bun":
        knot = np.array([0, 0.62, -1.02], np.float32) + 0.33 * rays[::2, ::2]
        parts.append(_surface(knot, person.hair * (1 + 0.25 * strands[::2, ::2]), 0.25))
    if style in ("long", "bob"):
        parts += _curtain(person, density)
    return parts


def _curtain(person: Person, density: float) -> list[Surface]:
    """Hair that falls down the sides and the back, seen from outside and from inside."""
    bottom = -1.6 if person.hair_style == "long" else -0.85
    y = np.linspace(0.7, bottom, int(1.3 * density * (0.7 - bottom)))[:, None]
    turn = np.linspace(0.75, 2 * np.pi - 0.75, int(4.6 * density))[None, :]
    around = np.stack([np.sin(turn), np.cos(turn), 0 * turn], -1).astype(np.float32)
    strands = _ripple(around, person.texture + 6, (14, 14, 1), 14)
    dome = np.sqrt(1 - (np.clip(y, 0, None) / 0.95) ** 2)
    tuck = 1 - 0.16 * np.clip(-y - 0.25, 0, None) ** 2
    spread = (dome * tuck) * (1 + 0.025 * strands)
    x, z = 0.90 * person.width * spread * np.sin(turn), -0.28 + 0.78 * spread * np.cos(turn)
    grid = np.stack([x, y + 0 * turn + 0.25 * strands * np.clip(bottom + 0.3 - y, 0, None), z], -1)
    shade = person.hair * (1 + 0.22 * strands) + 0 * y
    outside = _surface(grid.astype(np.float32), shade, 0.25)
    return [outside, outside._replace(normals=-outside.normals, albedo=0.5 * outside.albedo)]


def _strands(rays: Array, seed: int) -> Array:
    """Noise along lines that run from the crown down all sides, as combed hair does."""
    crown = np.array([0.05, 0.9, -0.43], np.float32)
    side = np.cross(crown, [0, 0, 1]).astype(np.float32)
    along = rays @ crown
    turn = np.arctan2(rays @ side, rays @ np.cross(side, crown).astype(np.float32))
    around = np.stack([np.cos(turn), np.sin(turn), 0.25 * along], -1).astype(np.float32)
    return _ripple(around, seed, (16, 16, 8), 14)


def _sunglasses(skin: Array, person: Person, density: float) -> list[Surface]:
    """Two dark lenses, a bridge and the arms that reach over the ears."""
    near = (np.abs(skin[..., 1] - 0.1) < 0.2) & (np.abs(skin[..., 0]) < 0.2)
    front = float(skin[..., 2][near].max()) + 0.02
    steps = max(int(0.7 * density), 10)
    u, v = np.meshgrid(np.linspace(-1, 1, 3 * steps), np.linspace(1, -1, steps))
    x = 0.66 * u * person.width
    y = 0.045 + 0.20 * v - 0.01 * u**2
    z = front - 0.34 * u**2 - 0.05 * np.abs(v)
    frame = np.stack([x, y, z], -1).astype(np.float32)
    a = np.abs(u) - 0.53
    lens = (np.abs(a / 0.44) ** 3 + np.abs(v / (0.95 - 0.2 * a)) ** 3) < 1
    bridge = (np.abs(u) < 0.2) & (np.abs(v - 0.45) < 0.2)
    bar = (v > 0.62) & (np.abs(u) > 0.1)
    parts = [_surface(frame, np.where(lens, 0.015, 0.04), 0.3, lens | bridge | bar)]
    for side in (1.0, -1.0):
        t, w = np.meshgrid(np.linspace(0, 1, 2 * steps), np.linspace(1, -1, max(steps // 4, 4)))
        arm = np.stack(
            [
                side * person.width * (0.66 + 0.18 * np.sqrt(t)),
                0.13 + 0.05 * w - 0.03 * t,
                (front - 0.34) * (1 - t) - 0.12 * t,
            ],
            -1,
        )
        parts.append(_surface(arm[:, :: -int(side)], 0.03, 0.4))
    return parts


# ----------------------------------------------------------------------------------- the body

# Height, half width and half depth of the outline from the neck down, and how far it lies back.
BODY_OUTLINE = np.array(
    [
        [-0.45, 0.46, 0.48, -0.30],
        [-1.15, 0.49, 0.48, -0.33],
        [-1.40, 0.66, 0.52, -0.36],
        [-1.62, 1.10, 0.58, -0.38],
        [-1.85, 1.58, 0.62, -0.36],
        [-2.15, 1.86, 0.70, -0.32],
        [-2.8, 2.05, 0.82, -0.28],
        [-4.6, 2.10, 0.92, -0.25],
    ]
)


@lru_cache(maxsize=4)
def _sculpt_body(person: Person, density: float) -> Surface:
    outline = BODY_OUTLINE.copy()
    outline[3:, 1] *= person.shoulders
    lengths = np.hypot(*np.diff(outline[:, :2], axis=0).T)
    place = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.linspace(0, place[-1], int(place[-1] * 1.2 * density))
    profile = np.stack([np.interp(rows, place, column) for column in outline.T], -1)
    profile = cv2.GaussianBlur(
        profile, (1, 0), sigmaX=0.1, sigmaY=0.10 * density, borderType=cv2.BORDER_REPLICATE
    )
    y, wide, deep, back = (column[:, None] for column in profile.T)
    # Only the front half and a little more can ever be seen.
    turn = np.linspace(-2.2, 2.2, int(6.5 * density))[None, :]
    x, z = wide * np.sin(turn), back + deep * np.cos(turn)
    grid = np.stack([x, y + 0 * turn, z], -1).astype(np.float32)
    depth_of_collar = -1.62 - (0.5 if person.pattern == "open collar" else 0.12) * _bump(x, 0.32)
    collar = np.where(z > back, depth_of_collar, -1.45) - y
    cloth = _cloth(grid, person)
    cloth = cloth + _soft(0.1 - collar, 0.05) * (person.accent - cloth)
    albedo = person.skin + _soft(collar, 0.04) * (cloth - person.skin)
    folds = 1 + 0.06 * _ripple(grid, person.texture + 5, (3, 1.5, 3))
    albedo = np.where(collar > 0, albedo * folds, albedo)
    return _surface(grid, albedo.astype(np.float32), 0.04)


def _cloth(grid: Array, person: Person) -> Array:
    x, y = grid[..., 0], grid[..., 1]
    if person.pattern == "stripes":
        mix = _soft(np.sin(y * 18), 0.4)
    elif person.pattern == "checks":
        mix = 0.5 * (_soft(np.sin(x * 14), 0.4) + _soft(np.sin(y * 14), 0.4))
    elif person.pattern == "dots":
        mix = _soft(np.sin(x * 16) * np.sin(y * 16) - 0.55, 0.3)
    else:
        mix = np.zeros_like(x)
        if person.pattern == "open collar":
            mix = _bump(x, 0.03)
    return person.shirt + mix * (person.accent - person.shirt)


# -------------------------------------------------------------------------------- the picture


def _project(points: Array, scene: Scene) -> tuple[Array, Array]:
    """Columns and rows of points (N, 3) in the enlarged picture."""
    x, y, z = points.T
    size = scene.scale * SUPERSAMPLING * CAMERA_DISTANCE / (CAMERA_DISTANCE - z)
    column = scene.centre[0] * scene.width * SUPERSAMPLING + x * size
    row = scene.centre[1] * scene.height * SUPERSAMPLING - y * size
    return column, row


def _nearest_points(surface: Surface, scene: Scene) -> tuple[NDArray[np.int32], Array]:
    """For every pixel of the enlarged picture the nearest point, or -1, and its z."""
    height, width = scene.height * SUPERSAMPLING, scene.width * SUPERSAMPLING
    camera = np.array([0, 0, CAMERA_DISTANCE], np.float32)
    facing = np.einsum("ij,ij->i", surface.normals, camera - surface.points) > 0
    chosen = np.flatnonzero(facing).astype(np.int32)
    column, row = _project(surface.points[chosen], scene)
    left, top = (column - 0.5).astype(np.int32), (row - 0.5).astype(np.int32)
    inside = (left >= 0) & (left < width - 1) & (top >= 0) & (top < height - 1)
    chosen, pixel = chosen[inside], (top * width + left)[inside]
    z = surface.points[:, 2]
    # Sixteen bits of depth let the sort count instead of compare; the last write wins.
    keys = np.clip((z[chosen] + 3) * 10000, 0, 65535).astype(np.uint16)
    order = np.argsort(keys, kind="stable")
    chosen, pixel = chosen[order], pixel[order]
    footprint = pixel[:, None] + np.array([0, 1, width, width + 1], np.int32)
    winner = np.full(height * width, -1, np.int32)
    winner[footprint.ravel()] = np.repeat(chosen, 4)
    depth = np.where(winner >= 0, z[winner], np.float32(-2.5))
    return _close_gaps(winner.reshape(height, width), depth.reshape(height, width))


def _close_gaps(winner: NDArray[np.int32], depth: Array) -> tuple[NDArray[np.int32], Array]:
    """Fill pixels that lie far behind all their surroundings: gaps between stretched points."""
    gap = cv2.morphologyEx(depth, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) - depth > 0.06
    rows, columns = np.nonzero(gap)
    height, width = depth.shape
    filled, nearer = winner.copy(), depth.copy()
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)):
        row = np.clip(rows + down, 0, height - 1)
        column = np.clip(columns + right, 0, width - 1)
        better = depth[row, column] > nearer[rows, columns]
        filled[rows[better], columns[better]] = winner[row[better], column[better]]
        nearer[rows[better], columns[better]] = depth[row[better], column[better]]
    return filled, nearer


def _shade(surface: Surface, winner: NDArray[np.int32], depth: Array, scene: Scene) -> Array:
    """Brightness 0..1 of every pixel of the enlarged picture."""
    lamp = _unit(np.array(scene.light, np.float32))
    normals = _unit(_blur(surface.normals[winner], 0.8))
    albedo, gloss = surface.albedo[winner], surface.gloss[winner]
    lit = np.clip(np.einsum("ijk,k", normals, lamp), 0, 1)
    lit *= _reached_by_lamp(surface, winner, lamp, scene)
    halfway = _unit(lamp + np.array([0, 0, 1], np.float32))
    shine = np.clip(np.einsum("ijk,k", normals, halfway), 0, 1) ** 24 * gloss
    sky = 0.75 + 0.25 * normals[..., 1]
    fill = 0.25 * np.clip(normals[..., 2], 0, 1)
    ambient = scene.ambient * (sky + fill) * _openness(depth, scene)
    light = albedo * (scene.lamp * lit + ambient) + 0.25 * scene.lamp * shine * (lit > 0)
    brightness: Array = np.clip(light, 0, 1) ** 0.6
    return brightness


def _reached_by_lamp(
    surface: Surface, winner: NDArray[np.int32], lamp: Array, scene: Scene
) -> Array:
    """Share 0..1 of the lamp that is not held back by another part of the bust.

    Around the bust, where there is no point, it is that of the last point, low on the back: mostly
    shadow. Blurred, this draws a soft dark line along outlines, which sets hair off from the wall.
    """
    cell = 0.05
    across = _unit(np.cross([0, 1, 0], lamp).astype(np.float32))
    frame = np.stack([across, np.cross(lamp, across).astype(np.float32), lamp])
    u, v, near = _map(frame, surface.points).T
    side = int(12 / cell)
    index = np.clip((v + 7) / cell, 0, side - 1).astype(np.int32) * side
    index += np.clip((u + 6) / cell, 0, side - 1).astype(np.int32)
    first = np.full(side * side, -10, np.float32)
    np.maximum.at(first, index, near)
    blocked = first[index] - near > 0.16
    shadow = blocked[winner].astype(np.float32)
    return 1 - _blur(shadow, 0.05 * scene.scale * SUPERSAMPLING)


def _openness(depth: Array, scene: Scene) -> Array:
    """Share 0..1 of the surroundings that reach a pixel: hollows lie behind their neighbours."""
    hidden = np.zeros_like(depth)
    for reach, weight in ((0.3, 1.6), (1.0, 0.7)):
        size = max(int(reach * scene.scale * SUPERSAMPLING), 1)
        around = np.asarray(cv2.blur(depth, (size, size)), np.float32)
        hidden += weight * np.clip(around - depth, 0, 0.5)
    openness: Array = 1 - np.clip(hidden, 0, 0.75)
    return openness


def _draw_room(scene: Scene) -> Array:
    """The room behind the person, brightness 0..1 (height, width) of the enlarged picture."""
    height, width = scene.height * SUPERSAMPLING, scene.width * SUPERSAMPLING
    room = np.zeros((height, width), np.float32)
    dx, dy = scene.room_shift

    def box(left: float, top: float, wide: float, high: float, shade: float) -> None:
        columns = np.rint(np.array([left + dx, left + dx + wide]) * height).astype(int)
        rows = np.rint(np.array([top + dy, top + dy + high]) * height).astype(int)
        (x0, x1), (y0, y1) = np.clip(columns, 0, width), np.clip(rows, 0, height)
        room[y0:y1, x0:x1] = shade

    {"office": _office, "kitchen": _kitchen}[scene.room](box)
    fall_off = np.linspace(1.08, 0.85, width, dtype=np.float32)
    blurred = _blur(room, 0.008 * height)
    brightness: Array = np.clip(blurred * fall_off * scene.room_light, 0, 1)
    return brightness


def _office(box: Box) -> None:
    box(-1, -1, 4, 3, 0.24)  # wall
    rng = np.random.default_rng(11)
    for column in range(5):  # photographs pinned to the wall
        for row in range(5 - column // 2):
            left, top = 0.02 + 0.085 * column, 0.12 + 0.105 * row + 0.03 * column
            left, top = np.array([left, top]) + rng.uniform(-0.012, 0.012, 2)
            box(left, top, 0.062, 0.082, rng.uniform(0.36, 0.5))
            box(left + 0.012, top + 0.012, 0.038, 0.05, rng.uniform(0.08, 0.3))
    box(0.70, -1, 0.008, 1.35, 0.17)  # cable
    box(-1, 0.72, 4, 0.02, 0.16)  # edge of the desk
    box(-1, 0.74, 4, 2, 0.13)
    box(0.03, 0.5, 0.30, 0.25, 0.34)  # monitor
    box(0.06, 0.53, 0.22, 0.17, 0.10)
    box(0.12, 0.75, 0.12, 0.04, 0.28)
    box(0.82, 0.55, 0.2, 0.2, 0.09)  # cabinet and what stands on it
    box(0.84, 0.49, 0.05, 0.07, 0.42)
    box(0.92, 0.46, 0.035, 0.1, 0.08)
    box(0.98, 0.51, 0.06, 0.045, 0.5)


def _kitchen(box: Box) -> None:
    box(-1, -1, 4, 3, 0.62)  # bright wall
    box(0.92, 0.02, 0.55, 0.62, 0.86)  # window
    box(1.18, 0.02, 0.025, 0.62, 0.5)
    box(0.92, 0.32, 0.55, 0.02, 0.5)
    box(-0.1, 0.18, 0.42, 0.02, 0.34)  # shelf
    for left, high, shade in ((0.0, 0.1, 0.4), (0.08, 0.07, 0.75), (0.16, 0.12, 0.3)):
        box(left, 0.18 - high, 0.05, high, shade)
    box(-1, 0.8, 4, 0.5, 0.44)  # worktop
