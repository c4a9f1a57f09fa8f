"""Why does a network fail on new people? What differs, and what each difference costs."""

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from happymaps.answering import logits_of
from happymaps.datasets import LabelledImages, labels_of
from happymaps.evaluation import predictions, scores
from happymaps.images.boxes import Box
from happymaps.networks import Network
from happymaps.params import POSES, NetworkParams
from happymaps.understanding.focus import box_masks
from happymaps.understanding.invariance import moved, to_bytes

Row = dict[str, Any]

# What is looked at, and the columns of `describe` that tell it.
DIFFERENCES = {
    "position": ["x", "y"],
    "size": ["size"],
    "brightness": ["brightness"],
    "contrast": ["contrast"],
    "background": ["background"],
}
ALL = "all of these"
LEFT_YAW = 64.0  # degrees: the middle of what the drawn cast do when asked to look left

_FLATTEST = 1 / 255  # least contrast that is divided by

# Of a pose's images. Where a detector finds fewer heads than that, most of its finds are none.
_LEAST_FOUND = 0.25


def describe(faces: LabelledImages, boxes: Sequence[Box | None]) -> pd.DataFrame:
    """Where each head is and how it is lit.

    Args:
        faces: N images.
        boxes: the box around the head of each, None where none was found.

    Returns:
        One row per image: its `pose`, the head's centre `x, y` and height `size` as fractions of
        the image, mean `brightness` and standard deviation `contrast` of the head, and the mean
        of the `background` around it, with white as 1. NaN, but for the pose, where there is no
        box.
    """
    height, width = faces.images.shape[2:]
    masks = box_masks(boxes, height, width)
    rows: list[dict[str, float]] = []
    for pixels, mask, box in zip(faces.images[:, 0], masks, boxes, strict=True):
        if box is None:
            rows.append({})
            continue
        image = pixels.double() / 255
        rows.append(
            {
                "x": (box.left + box.right) / 2 / width,
                "y": (box.top + box.bottom) / 2 / height,
                "size": (box.bottom - box.top) / height,
                "brightness": float(image[mask].mean()),
                "contrast": float(image[mask].std(correction=0)),
                "background": float(image[~mask].mean()),
            }
        )
    columns = [column for group in DIFFERENCES.values() for column in group]
    table = pd.DataFrame(rows, columns=columns, dtype=float)
    table.insert(0, "pose", faces.truth["pose"].to_numpy())
    return table


def typical(table: pd.DataFrame, poses: Sequence[str]) -> "pd.Series[float]":
    """The mean over `poses` of their medians: a turned head is found elsewhere than a straight one.

    Args:
        table: from `describe`; rows without a head do not count.
        poses: each must occur with a head.
    """
    medians = table.dropna().groupby("pose").median()
    return medians.loc[list(poses)].mean()


def diagnose(
    network: Network,
    faces: LabelledImages,
    boxes: Sequence[Box | None],
    training: pd.DataFrame,
    subject: pd.DataFrame,
    turn: Row | None = None,
) -> list[Row]:
    """Give known faces, one at a time, each difference that sets a person apart.

    Changed are those of `faces` whose head is found and that the network answers rightly: as they
    are, their accuracy is 1. They are of the classes that the person shows, for who never turns
    left cannot be missed there. Left turns are rare, so the cost counts in balanced accuracy. Faces
    differ from person to person: each is changed by the difference between the typical faces.

    Args:
        network: in evaluation mode.
        faces: N images it was not trained on.
        boxes: the box around the head of each, None where none was found.
        training: `describe` of faces it was trained on.
        subject: `describe` of the new person's. Both are compared on the poses that they share,
            and of which heads are found in a quarter of the images at least.
        turn: row for the angle of the turn, from `turn_row`.

    Returns:
        A row for every one of `DIFFERENCES`, for all of them together, and the turn's, the
        costliest first: `difference`; its `faces` and `subject` values; how many of the
        person's `heads` they come from; `images` changed;
        `accuracy`, `balanced_accuracy` and `left_recall` then, by the largest output; `cost`, how
        much of the balanced accuracy is gone. Only the turn's row when no head can be compared or
        changed.
    """
    poses = sorted(_well_found(training) & _well_found(subject))
    rows = [] if turn is None else [turn]
    chosen, known = _known(network, faces, boxes, set(subject["pose"]))
    if poses and known:
        here, there = typical(training, poses), typical(subject, poses)
        heads = int(_seen(subject)[subject["pose"].isin(poses)].sum())
        rows += [
            {**_cost(network, chosen, known, name, here, there), "heads": heads}
            for name in (*DIFFERENCES, ALL)
        ]
    return sorted(rows, key=lambda row: torch.inf if row["cost"] is None else -row["cost"])


def _seen(table: pd.DataFrame) -> "pd.Series[bool]":
    """Whose head is found with something of it, and something around it, in the image."""
    return table.notna().all(axis=1)


def _well_found(table: pd.DataFrame) -> set[str]:
    """The poses of which enough heads are found."""
    share = _seen(table).groupby(table["pose"]).mean()
    return set(share.index[share >= _LEAST_FOUND])


def _known(
    network: Network, faces: LabelledImages, boxes: Sequence[Box | None], poses: set[str]
) -> tuple[LabelledImages, list[Box]]:
    """The faces of these poses' classes that are found and answered rightly, and their boxes."""
    labels = faces.labels(network.spec)
    shown = shown_classes(network.spec, poses)
    right = (logits_of(network, faces.images).argmax(dim=1) == labels) & torch.isin(labels, shown)
    chosen = [
        is_right and box is not None for is_right, box in zip(right.tolist(), boxes, strict=True)
    ]
    known = [box for box, keep in zip(boxes, chosen, strict=True) if keep and box is not None]
    return faces.subset(pd.Series(chosen, dtype=bool)), known


def _cost(
    network: Network,
    faces: LabelledImages,
    boxes: Sequence[Box],
    name: str,
    here: "pd.Series[float]",
    there: "pd.Series[float]",
) -> Row:
    names = list(DIFFERENCES) if name == ALL else [name]
    logits = logits_of(network, changed(faces.images, boxes, names, here, there))
    table = predictions(network.spec, logits, faces)
    figures = scores(network.spec, logits, faces)
    called_left = (table["predicted"] == "left")[table["pose"] == "left"]
    columns = DIFFERENCES.get(name, [])
    return {
        "difference": name,
        "faces": here[columns].tolist(),
        "subject": there[columns].tolist(),
        "images": len(faces),
        "accuracy": figures["accuracy"],
        "balanced_accuracy": figures["balanced_accuracy"],
        "left_recall": float(called_left.mean()) if len(called_left) else None,
        "cost": 1 - figures["balanced_accuracy"],
    }


def changed(
    images: Tensor,
    boxes: Sequence[Box],
    names: Sequence[str],
    here: "pd.Series[float]",
    there: "pd.Series[float]",
) -> Tensor:
    """Change images as `there` differs from `here`.

    Brightness is added and contrast spread about the mean on the head alone, the background is
    brightened around it; then the whole image is scaled about the head's centre and moved, its
    borders continued outwards.

    Args:
        images: (N, 1, H, W) uint8.
        boxes: their heads.
        names: of `DIFFERENCES`.
        here: typical values of faces like these, by `describe`'s columns.
        there: those to come nearer to.

    Returns:
        (N, 1, H, W) uint8.
    """
    height, width = images.shape[2:]
    heads = box_masks(boxes, height, width).unsqueeze(1)
    pictures = images.float() / 255
    by = there - here
    if "contrast" in names:
        spread = there["contrast"] / max(here["contrast"], _FLATTEST)
        mean = (pictures * heads).sum(dim=(2, 3), keepdim=True) / heads.sum(
            dim=(2, 3), keepdim=True
        )
        pictures = torch.where(heads, mean + spread * (pictures - mean), pictures)
    if "brightness" in names:
        pictures = pictures + by["brightness"] * heads
    if "background" in names:
        pictures = pictures + by["background"] * ~heads
    pictures = pictures.clamp(0, 1)
    scale = there["size"] / here["size"] if "size" in names else 1.0
    x, y = (by["x"], by["y"]) if "position" in names else (0.0, 0.0)
    if (scale, x, y) == (1.0, 0.0, 0.0):
        return to_bytes(pictures)
    # Scaling about the image's centre drives the head away from it: the way back is added.
    back = [
        (
            (1 - scale) * ((box.left + box.right) / 2 / width - 0.5),
            (1 - scale) * ((box.top + box.bottom) / 2 / height - 0.5),
        )
        for box in boxes
    ]
    shifted = [
        moved(picture.unsqueeze(0), x + right, y + down, scale)
        for picture, (right, down) in zip(pictures, back, strict=True)
    ]
    return to_bytes(torch.cat(shifted))


def turn_curve(network: Network, images: Tensor, yaws: Tensor) -> dict[float, float]:
    """The share of heads for which "left" is a network's largest output, by their angle.

    Args:
        network: in evaluation mode.
        images: (N, 1, H, W) uint8, as `draw_turned` draws them.
        yaws: (N,) degrees to the subject's left.

    Returns:
        Angles, ascending, and shares.
    """
    left = network.spec.classes.index("left")
    said_left = (logits_of(network, images).argmax(dim=1) == left).double()
    return {yaw: said_left[yaws == yaw].mean().item() for yaw in sorted(set(yaws.tolist()))}


def shown_classes(spec: NetworkParams, poses: Collection[str]) -> Tensor:
    """The classes of these poses, ascending."""
    labels = labels_of(spec, torch.tensor([POSES.index(pose) for pose in poses]))
    found: Tensor = labels.unique()
    return found


def turn_row(curve: dict[float, float], full: float, turn: float, classes: int) -> Row:
    """What it costs that a person turns by `turn` degrees instead of `full`.

    The cost is in balanced accuracy, as in `diagnose`: the fall of the left turns' recall over the
    number of classes that the person shows, for the others are not touched. A network that does
    not call most of the drawn heads left at the full angle, or does so at no angle as well, does
    not know drawn heads: then the cost is None.

    Args:
        curve: from `turn_curve`, with the angles `full`, `turn` and 0.
        full: degrees at which the pictures lie that the network learned "left" from.
        turn: degrees of the new person.
        classes: how many of the network's classes the person shows, "left" among them.
    """
    knows = curve[full] > 0.5 > curve[0.0]
    return {
        "difference": "turn",
        "faces": [full],
        "subject": [turn],
        "images": None,
        "accuracy": None,
        "balanced_accuracy": None,
        "left_recall": curve[turn],
        "cost": (curve[full] - curve[turn]) / classes if knows else None,
    }
