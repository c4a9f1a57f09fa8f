"""The drawn cast turning their heads degree by degree, which no photograph can be asked to do."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from happymaps.images.decode import Grey
from happymaps.sources.drawing import render_all
from happymaps.sources.sample import USERS, adjust, cast_person, rng_of, take_seat


def draw_turned(
    people: int, yaws: Sequence[float], seed: int
) -> tuple[list[Grey], NDArray[np.float64]]:
    """Draw each of some people of the sample at each angle, in the same light and clothes.

    They hold their heads level, with a neutral face and open eyes, and turn as people do: the head
    moves a little, and the body follows.

    Args:
        people: how many, from the first.
        yaws: degrees to the subject's left.
        seed: as for `sample.draw_cast`, whose people these are.

    Returns:
        N pictures, (H, W) uint8, and (N,) their angles; person by person.

    Raises:
        ValueError: when there are not as many people.
    """
    if not 1 <= people <= len(USERS):
        raise ValueError(f"people must be between 1 and {len(USERS)}, not {people}")
    looks = []
    for user in USERS[:people]:
        rng = rng_of(seed, user)
        person = cast_person(user, seed, rng)
        seat = take_seat(person, rng)
        for yaw in yaws:
            # The same sway and exposure at every angle.
            scene = adjust(seat, yaw, rng_of(seed, user, "turned"))
            looks.append({"person": person, "yaw": yaw, "pitch": 0.0, "scene": scene})
    pictures = [picture for picture, _ in render_all(looks)]
    return pictures, np.tile(np.asarray(yaws, np.float64), people)
