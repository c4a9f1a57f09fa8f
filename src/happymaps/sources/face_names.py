"""What the file names of faces say: of CMU's, and of sets whose names begin with a person's."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, cast

from happymaps.params import Pose

IMAGES = "images"  # where sets without folders of their own for people have them
_NAME = re.compile(
    r"(?P<subject>[a-z0-9]+)_(?P<pose>straight|left|right|up)"
    r"_(?P<expression>neutral|happy|sad|angry)_(?P<eyes>open|sunglasses)"
    r"(?:_(?P<scale>2|4))?\.(?P<kind>pgm|bad)"
)


@dataclass(frozen=True)
class FaceName:
    """What the name of a CMU image says of it; `scale` is 1, 2 or 4 (full, half, quarter size)."""

    subject: str
    pose: Pose
    expression: str
    eyes: str
    scale: Literal[1, 2, 4]
    bad: bool


def parse_name(file_name: str) -> FaceName | None:
    """Read `<user>_<pose>_<expression>_<eyes>[_2|_4].pgm|.bad`; None for any other name."""
    match = _NAME.fullmatch(file_name)
    if match is None:
        return None
    return FaceName(
        subject=match["subject"],
        pose=cast(Pose, match["pose"]),
        expression=match["expression"],
        eyes=match["eyes"],
        scale=cast(Literal[1, 2, 4], int(match["scale"] or 1)),
        bad=match["kind"] == "bad",
    )


def in_images(member: str) -> str:
    """Where a file of an archive goes, whatever folder it was in: `images/<file>`."""
    return f"{IMAGES}/{PurePosixPath(member).name}"


def person_of(file_name: str) -> str:
    """Who is in a picture: `<person>_<number>.jpg`."""
    return PurePosixPath(file_name).stem.rpartition("_")[0]
