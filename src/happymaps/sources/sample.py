"""An embedded sample: a cast drawn by code, laid out like the CMU Face Images, with its truth.

The set stands in for photographs where none can be had: people sit in one office and look
straight, left, right and up with four expressions, with and without sunglasses.  Three more
people are recorded turning their heads in another room.  Directions are the subject's own: a
head turned left points its nose to the right side of the picture.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import cv2
import ffmpeg
import numpy as np
from PIL import Image
from tqdm import tqdm

from happymaps.files import replacing_folder
from happymaps.images.video import ffmpeg_binary
from happymaps.params import Pose
from happymaps.sources.drawing import (
    Array,
    Beard,
    Expression,
    Eyes,
    HairStyle,
    Mask,
    Pattern,
    Person,
    Picture,
    Scene,
    render_all,
)

USERS = (
    "aru", "beko", "ciro4", "dovi", "eljo", "fenn", "galo", "hiru7", "ivak", "joon3",
    "kelo", "lumi", "mavi", "neko", "oru9", "pavi", "quon", "rilo", "senn", "tavo",
)  # fmt: skip
FULL_SIZE = (128, 120)
SHRUNK = {"_2": 2, "_4": 4}
# Four people in five have one damaged picture: 16 of 640, as many as the real set has.
UNHARMED_EVERY = 5


class Footage(NamedTuple):
    """How one person is recorded."""

    subject: str
    width: int
    height: int
    rate: int  # frames per second
    seconds: float
    looks_up: bool
    expression: Expression


FOOTAGE = (
    Footage("umo", 320, 240, 12, 5.5, False, "neutral"),
    Footage("velu", 320, 240, 15, 6.0, True, "neutral"),
    Footage("wyn", 240, 320, 12, 6.5, True, "happy"),
)
SUBJECTS = tuple(footage.subject for footage in FOOTAGE)
STRANGERS = ("Bea_Corin", "Dan_Elwy", "Fay_Gorm", "Hal_Ives", "Jo_Kern", "Lea_Munt")


@dataclass(frozen=True)
class Cast:
    """What `draw_cast` has written: who is photographed, who is recorded and how often."""

    destination: Path
    users: tuple[str, ...]
    subjects: tuple[str, ...]
    pictures: int
    frames: int


def draw_cast(destination: Path, *, people: int = 20, seed: int = 0, progress: bool = True) -> Cast:
    """Write the sample to `destination`, a folder that is missing or empty.

    The folder receives

    - `cmu_faces/<user>/<user>_<pose>_<expression>_<eyes>.pgm`, plain P2 of 128x120, with halves
      (`_2`) and quarters (`_4`) in raw P5.  Every file has its own maxval between 119 and 159.
      A damaged picture is named `.bad` and exists at full size only.
    - `cmu_faces.sha256`, the checksums of those files.
    - `recordings/<subject>.mp4` and `annotations/<subject>.csv` with `start,end,pose`, half-open
      intervals in seconds.
    - `truth/cmu_faces.csv` with `image,yaw,pitch` and `truth/<subject>.csv` with
      `frame,time,yaw,pitch`; degrees, positive yaw to the subject's left, positive pitch up.
    - `truth/masks/cmu_faces/<user>/<name>.png` and `truth/masks/<subject>/<frame>.png`, 255 on
      the head with hair, ears and glasses and 0 elsewhere.

    The same seed writes the same bytes, and the pictures of one user do not depend on `people`.
    Everything appears at once, at the end: the destination is never half-written.

    Raises:
        ValueError: when `people` is not between 2 and 20 or `seed` is negative.
        FileExistsError: when the destination holds anything.
        ffmpeg.Error: when the encoder fails.
    """
    if not 2 <= people <= len(USERS):
        raise ValueError(f"people must be between 2 and {len(USERS)}, not {people}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, not {seed}")
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise FileExistsError(f"{destination} exists and is not an empty folder")
    users = USERS[:people]
    frames = sum(_frame_count(footage) for footage in FOOTAGE)
    pictures = len(list(_variants())) * people
    with (
        replacing_folder(destination) as draft,
        tqdm(total=pictures + frames, unit="picture", disable=not progress) as bar,
    ):
        rows = [row for user in users for row in photograph(draft, user, seed, bar.update)]
        _write_table(draft / "truth/cmu_faces.csv", ("image", "yaw", "pitch"), rows)
        write_manifest(draft / "cmu_faces")
        for footage in FOOTAGE:
            _record(draft, footage, seed, bar.update)
    return Cast(destination, users, tuple(f.subject for f in FOOTAGE), pictures, frames)


def label(yaw: float, pitch: float) -> Pose | None:
    """Return the pose an observer would name for a head at these degrees, None in between."""
    if pitch >= 18:
        return "up"
    if abs(pitch) >= 10:
        return None
    if abs(yaw) < 10:
        return "straight"
    if abs(yaw) < 20:
        return None
    return "left" if yaw > 0 else "right"


# ---------------------------------------------------------------------------------- casting


def rng_of(seed: int, *words: str) -> np.random.Generator:
    """A generator that depends on nothing but the seed and what it is used for."""
    return np.random.default_rng(np.random.SeedSequence([seed, *"/".join(words).encode()]))


def cast_person(name: str, seed: int, rng: np.random.Generator) -> Person:
    """Make up how one of the cast looks; among themselves their hair differs."""
    group = next(group for group in (USERS, SUBJECTS, STRANGERS) if name in group)
    styles = rng_of(seed, "hair", *group).permutation(get_args(HairStyle)).tolist()
    # Dealt out like cards: in a small cast, no two heads of hair are alike.
    style: HairStyle = styles[group.index(name) % len(styles)]
    slim = style in ("bun", "bob", "long")
    broad = style in ("short", "receding", "bald") or (not slim and rng.random() < 0.5)
    skin = float(rng.choice([rng.uniform(0.15, 0.24), rng.uniform(0.28, 0.4), 0.46, 0.53]))
    shades = [0.03, 0.06] if skin < 0.42 else [0.03, 0.06, 0.14, 0.26, 0.42]
    shirt = float(rng.choice([0.06, 0.2, 0.4, 0.62]))
    beards: tuple[Beard, ...] = ("none", "none", *get_args(Beard)) if broad else ("none",)
    patterns: tuple[Pattern, ...] = get_args(Pattern)
    return Person(
        width=rng.uniform(0.98, 1.08) if broad else rng.uniform(0.93, 1.02),
        height=rng.uniform(0.94, 1.06),
        jaw=rng.uniform(1.0, 1.2) if broad else rng.uniform(0.82, 1.0),
        chin=rng.uniform(-0.05, 0.07),
        cheeks=rng.uniform(0.85, 1.2),
        brow=rng.uniform(1.0, 1.35) if broad else rng.uniform(0.7, 0.95),
        nose_length=rng.uniform(-0.05, 0.09),
        nose_width=rng.uniform(0.85, 1.3),
        nose_bridge=rng.uniform(-0.03, 0.06),
        lips=rng.uniform(0.75, 1.1) if broad else rng.uniform(1.0, 1.35),
        eye_size=rng.uniform(0.92, 1.08),
        ears=rng.uniform(0.85, 1.2),
        skin=skin,
        hair=float(rng.choice(shades)),
        hair_style=style,
        beard=beards[rng.integers(len(beards))],
        shoulders=rng.uniform(0.96, 1.1) if broad else rng.uniform(0.8, 0.92),
        shirt=shirt,
        accent=float(rng.choice([0.1, 0.3])) if shirt > 0.3 else float(rng.choice([0.5, 0.8])),
        pattern=patterns[rng.integers(len(patterns))],
        texture=int(rng.integers(1 << 30)),
    )


# ------------------------------------------------------------------------------- photographs


def _variants() -> Iterable[tuple[Pose, Expression, Eyes]]:
    poses: tuple[Pose, ...] = get_args(Pose)
    expressions: tuple[Expression, ...] = get_args(Expression)
    coverings: tuple[Eyes, ...] = get_args(Eyes)
    return ((p, e, c) for p in poses for e in expressions for c in coverings)


# Of each pose in degrees of yaw and pitch: how pictures of one person scatter, and within what.
_SPREAD = {"straight": (3, 2), "left": (5, 3), "right": (5, 3), "up": (3, 3)}
_LOWEST = {"straight": (-9, -8), "left": (50, -8), "right": (-80, -8), "up": (-9, 25)}
_HIGHEST = {"straight": (9, 8), "left": (80, 8), "right": (-50, 8), "up": (9, 45)}


class Shot(NamedTuple):
    """A picture that is to be taken: what `render` is told, and the chance in what follows."""

    name: str
    look: dict[str, Any]
    rng: np.random.Generator


def photograph(
    draft: Path, user: str, seed: int, tick: Callable[[], object]
) -> list[tuple[str, str, str]]:
    """Write all pictures and masks of one user as `draw_cast` does, and call `tick` after each.

    Returns:
        Rows of `truth/cmu_faces.csv`, one per picture.
    """
    rng = rng_of(seed, user)
    shots = _shots(user, seed, rng)
    damaged = int(rng.integers(len(shots))) if _is_harmed(user) else -1
    rows = []
    pictures = render_all(shot.look for shot in shots)
    for number, (shot, (picture, mask)) in enumerate(zip(shots, pictures, strict=True)):
        _write_mask(draft / f"truth/masks/cmu_faces/{user}/{shot.name}.png", mask)
        write = _write_damaged if number == damaged else _write_all_scales
        path = write(draft / "cmu_faces" / user / shot.name, picture, shot.rng)
        yaw, pitch = (f"{shot.look[angle]:.2f}" for angle in ("yaw", "pitch"))
        rows.append((f"{user}/{path.name}", yaw, pitch))
        tick()
    return rows


def _shots(user: str, seed: int, rng: np.random.Generator) -> list[Shot]:
    """One of every pose, expression and look of the eyes, taken where the user sits."""
    person = cast_person(user, seed, rng)
    habit = {
        "straight": (rng.normal(0, 2), rng.normal(0, 2)),
        "left": (rng.uniform(54, 74), rng.normal(0, 3)),
        "right": (-rng.uniform(54, 74), rng.normal(0, 3)),
        "up": (rng.normal(0, 3), rng.uniform(29, 41)),
    }
    seat = take_seat(person, rng)
    shots = []
    for pose, expression, eyes in _variants():
        name = f"{user}_{pose}_{expression}_{eyes}"
        chance = rng_of(seed, name)
        angles = chance.normal(habit[pose], _SPREAD[pose]).clip(_LOWEST[pose], _HIGHEST[pose])
        yaw, pitch = (round(float(angle), 2) for angle in angles)
        look = {
            "person": person,
            "yaw": yaw,
            "pitch": pitch,
            "roll": float(chance.normal(0, 2)),
            "expression": expression,
            "eyes": eyes,
            "scene": adjust(seat, yaw, chance),
        }
        shots.append(Shot(name, look, chance))
    return shots


def _write_all_scales(path: Path, picture: Picture, rng: np.random.Generator) -> Path:
    """Write it whole, and shrunk beside it; returns the whole one's path."""
    whole = path.with_suffix(".pgm")
    _write_pgm(whole, picture, rng, plain=True)
    for suffix, factor in SHRUNK.items():
        size = (FULL_SIZE[0] // factor, FULL_SIZE[1] // factor)
        shrunk = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        _write_pgm(whole.with_stem(path.name + suffix), shrunk, rng, plain=False)
    return whole


def _write_damaged(path: Path, picture: Picture, rng: np.random.Generator) -> Path:
    """Write it as a broken transfer leaves it, and at full size only; returns its path."""
    broken = path.with_suffix(".bad")
    _write_pgm(broken, _damage(picture, rng), rng, plain=True)
    return broken


def _is_harmed(user: str) -> bool:
    return USERS.index(user) % UNHARMED_EVERY != UNHARMED_EVERY - 1


class Seat(NamedTuple):
    """What stays the same while one person is photographed."""

    scale: float
    centre: tuple[float, float]
    light: Array
    lamp: float
    ambient: float


def take_seat(person: Person, rng: np.random.Generator) -> Seat:
    """Choose where somebody sits, how far off, and in what light."""
    side = -1 if rng.random() < 0.75 else 1
    light = np.array([side * rng.uniform(0.35, 0.9), rng.uniform(0.3, 0.6), 0.7], np.float32)
    centre = (0.5 + rng.normal(0, 0.02), 0.42 + rng.normal(0, 0.02))
    exposure = (0.45 / person.skin) ** 0.4
    lamp, ambient = exposure * rng.uniform((1.45, 0.12), (1.75, 0.24))
    return Seat(rng.uniform(22, 25.5), centre, light, float(lamp), float(ambient))


def adjust(seat: Seat, yaw: float, rng: np.random.Generator) -> Scene:
    """The scene of one picture: nobody sits still, and no exposure is like the last."""
    width, height = FULL_SIZE
    sway_x, sway_y = rng.normal(0, (0.025, 0.015))
    x, y, z = seat.light + rng.normal(0, 0.06, 3)
    return Scene(
        width=width,
        height=height,
        scale=seat.scale * rng.uniform(0.97, 1.03),
        # A turned face reaches past the neck; people lean back to stay in the frame.
        centre=(seat.centre[0] + sway_x - 0.0004 * yaw, seat.centre[1] + sway_y),
        light=(float(x), float(y), float(z)),
        lamp=seat.lamp * rng.uniform(0.9, 1.1),
        ambient=seat.ambient,
        body_yaw=float(np.clip(0.15 * yaw + rng.normal(0, 4), -20, 20)),
        room="office",
        room_shift=tuple(rng.normal(0, (0.02, 0.012)).tolist()),
        room_light=rng.uniform(0.8, 1.15),
        noise_seed=int(rng.integers(1 << 30)),
    )


def _damage(picture: Picture, rng: np.random.Generator) -> Picture:
    """Harm a picture as a broken transfer does: torn, swamped in noise or with rows astray."""
    height, width = picture.shape
    kind = rng.integers(3)
    if kind == 0:
        tear = int(rng.integers(height // 4, height // 2))
        shift = int(rng.integers(width // 4, 3 * width // 4))
        return np.concatenate([picture[:tear], np.roll(picture[tear:], shift, axis=1)])
    if kind == 1:
        noise = rng.integers(0, 256, picture.shape).astype(np.uint8)
        return np.where(rng.random(picture.shape) < 0.6, noise, picture)
    blocks = np.array_split(picture, 10)
    return np.concatenate([blocks[place] for place in rng.permutation(10)])


def _write_pgm(path: Path, picture: Picture, rng: np.random.Generator, *, plain: bool) -> None:
    """Write a grey map with an uneven maxval, as text (P2) or as bytes (P5)."""
    maxval = int(rng.integers(119, 160))
    height, width = picture.shape
    values = (picture.astype(np.uint32) * maxval + 127) // 255
    header = f"{'P2' if plain else 'P5'}\n{width} {height}\n{maxval}\n".encode()
    if plain:
        lines = values.reshape(-1, 16)  # the format asks for lines below 70 characters
        pixels = "".join(" ".join(map(str, line)) + "\n" for line in lines.tolist()).encode()
    else:
        pixels = values.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + pixels)


# -------------------------------------------------------------------------------- recordings


def _record(draft: Path, footage: Footage, seed: int, tick: Callable[[], object]) -> None:
    """Write the recording of one subject with its annotations, angles and masks."""
    rng = rng_of(seed, "recordings", footage.subject)
    person = cast_person(footage.subject, seed, rng)
    scene = _set_up_camera(footage, rng)
    yaws, pitches = _head_turn(footage, rng)
    looks = [
        {
            "person": person,
            "yaw": yaw,
            "pitch": pitch,
            "expression": footage.expression,
            "scene": scene(number, yaw),
        }
        for number, (yaw, pitch) in enumerate(zip(yaws.tolist(), pitches.tolist(), strict=True))
    ]
    frames = []
    for number, (picture, mask) in enumerate(render_all(looks)):
        frames.append(picture)
        _write_mask(draft / f"truth/masks/{footage.subject}/{number:06}.png", mask)
        tick()
    _encode(draft / f"recordings/{footage.subject}.mp4", frames, footage.rate)
    truth = [
        (str(number), f"{number / footage.rate:.4f}", f"{yaw:.2f}", f"{pitch:.2f}")
        for number, (yaw, pitch) in enumerate(zip(yaws, pitches, strict=True))
    ]
    _write_table(draft / f"truth/{footage.subject}.csv", ("frame", "time", "yaw", "pitch"), truth)
    labels = [label(yaw, pitch) for yaw, pitch in zip(yaws, pitches, strict=True)]
    _write_table(
        draft / f"annotations/{footage.subject}.csv",
        ("start", "end", "pose"),
        [(f"{a:.4f}", f"{b:.4f}", pose) for a, b, pose in _intervals(labels, footage.rate)],
    )


def _set_up_camera(footage: Footage, rng: np.random.Generator) -> Callable[[int, float], Scene]:
    """Return the scene for every frame of a recording, by its number and the yaw of the head."""
    portrait = footage.height > footage.width
    scale = footage.width * (0.22 if portrait else 0.175) * rng.uniform(0.95, 1.05)
    centre = (0.5 + rng.choice([-1, 1]) * rng.uniform(0.04, 0.1), rng.uniform(0.42, 0.48))
    light = (rng.uniform(0.3, 0.9), rng.uniform(0.4, 0.8), rng.uniform(0.5, 0.9))
    lamp, ambient, room_light = rng.uniform((0.9, 0.4, 0.85), (1.2, 0.55, 1.05)).tolist()
    camera_height = rng.uniform(5, 12)
    shift = (rng.uniform(-0.1, 0.1), rng.uniform(-0.05, 0.05))
    noise_seed = int(rng.integers(1 << 30))

    def scene(number: int, yaw: float) -> Scene:
        return Scene(
            width=footage.width,
            height=footage.height,
            scale=scale,
            centre=centre,
            light=light,
            lamp=lamp,
            ambient=ambient,
            body_yaw=0.2 * yaw,
            camera_height=camera_height,
            room="kitchen",
            room_shift=shift,
            room_light=room_light,
            noise_seed=noise_seed + number,
        )

    return scene


def _frame_count(footage: Footage) -> int:
    return round(footage.rate * footage.seconds)


def _head_turn(footage: Footage, rng: np.random.Generator) -> tuple[Array, Array]:
    """Yaw and pitch of all frames, in hundredths of a degree so that the truth says it all."""
    left, right = rng.uniform(42, 70, 2)
    up = rng.uniform(25, 38) if footage.looks_up else 0.0
    yaw_keys = [(0.10, 0), (0.20, left), (0.30, left), (0.39, 0), (0.47, 0)]
    yaw_keys += [(0.57, -right), (0.67, -right), (0.76, 0)]
    pitch_keys = [(0.82, 0), (0.90, up), (1.0, up)]
    moment = np.linspace(0, 1, _frame_count(footage))
    sway = rng.uniform(1, 2, 2)[:, None] * np.sin(
        2 * np.pi * (rng.uniform(1, 2, 2)[:, None] * moment + rng.random((2, 1)))
    )
    yaws = _ease(moment, yaw_keys) + sway[0]
    pitches = _ease(moment, pitch_keys) + sway[1]
    return np.round(yaws, 2), np.round(pitches, 2)


def _ease(moment: Array, keys: Sequence[tuple[float, float]]) -> Array:
    """Move smoothly from key to key (moment, angle), resting before the first and at the last."""
    times, angles = np.array(keys).T
    place = np.interp(moment, times, np.arange(len(keys)))
    step = np.minimum(place.astype(int), len(keys) - 2)
    part = place - step
    part = part * part * (3 - 2 * part)
    eased: Array = angles[step] + part * (angles[step + 1] - angles[step])
    return eased


def _intervals(labels: Sequence[Pose | None], rate: int) -> list[tuple[float, float, Pose]]:
    """Runs of equal labels as half-open intervals in seconds, without the unlabelled ones.

    Boundaries sit half a frame before the frame's time, so that no rounding of a timestamp can
    move a frame to the neighbouring interval.
    """
    runs: list[tuple[float, float, Pose]] = []
    start = 0
    for end in range(1, len(labels) + 1):
        pose = labels[start]
        if end < len(labels) and labels[end] == pose:
            continue
        if pose is not None:
            runs.append((max(start - 0.5, 0) / rate, (end - 0.5) / rate, pose))
        start = end
    return runs


def _encode(path: Path, frames: Sequence[Picture], rate: int) -> None:
    """Encode grey frames as H.264, with the same bytes on every run."""
    height, width = frames[0].shape
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = ffmpeg.input(
        "pipe:", format="rawvideo", pix_fmt="gray", s=f"{width}x{height}", framerate=rate
    ).output(
        f"file:{path}",  # which may have a colon in it
        vcodec="libx264",
        pix_fmt="yuv420p",
        crf=18,
        threads=1,  # the number of threads changes the bits
        fflags="+bitexact",
        map_metadata=-1,
        **{"flags:v": "+bitexact"},
    )
    pixels = b"".join(frame.tobytes() for frame in frames)
    stream.run(cmd=ffmpeg_binary(), input=pixels, quiet=True)


# ------------------------------------------------------------------------------------- files


def _write_mask(path: Path, mask: Mask) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_manifest(folder: Path) -> None:
    """Write the checksums of all files in `folder` next to it, as sha256sum prints them."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*"))
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    folder.with_suffix(".sha256").write_text("".join(lines), encoding="utf-8", newline="\n")
