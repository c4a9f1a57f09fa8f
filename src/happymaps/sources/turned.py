"""The drawn cast turning their heads degree by degree, which no photograph can be asked to do."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from happymaps.images.crop import crop
from happymaps.params import CropParams
from happymaps.sources.drawing import render
from happymaps.sources.sample import USERS, adjust, cast_person, rng_of, take_seat


def draw_turned(
    people: int, yaws: Sequence[float], seed: int, params: CropParams
) -> tuple[Tensor, Tensor]:
    """Draw each of some people of the sample at each angle, the same in all else.

    They hold their heads level, with a neutral face and open eyes.

    Args:
        people: how many, from the first.
        yaws: degrees to the subject's left.
        seed: as for `sample.draw_cast`, whose people these are.
        params: how the photographs are cropped.

    Returns:
        (N, 1, H, W) uint8 images, and (N,) float64 their angles; person by person.

    Raises:
        ValueError: when there are not as many people.
    """
    if not 1 <= people <= len(USERS):
        raise ValueError(f"people must be between 1 and {len(USERS)}, not {people}")
    images = []
    for user in USERS[:people]:
        rng = rng_of(seed, user)
        person = cast_person(user, seed, rng)
        seat = take_seat(person, rng)
        for yaw in yaws:
            # The same sway and exposure at every angle.
            scene = adjust(seat, yaw, rng_of(seed, user, "turned"))
            picture, _ = render(person, yaw=yaw, pitch=0.0, scene=scene)
            images.append(crop(picture, params.cmu_faces, params).image)
    angles = torch.tensor(list(yaws), dtype=torch.float64).repeat(people)
    return torch.from_numpy(np.stack(images)).unsqueeze(1), angles
