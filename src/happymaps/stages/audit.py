"""Test one network's explanations, and what its decisions rest on."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from happymaps.answering import logits_of
from happymaps.datasets import LabelledImages, load_faces, read_heads, to_input
from happymaps.devices import best_device, configure_torch
from happymaps.errors import exit_on_error
from happymaps.explanation import Failures, failures_of, marked
from happymaps.figures import Curve, Row, draw_curves, draw_heat_maps, draw_sheet, heat, to_pixels
from happymaps.files import replacing_folder, write_json
from happymaps.images.boxes import Box
from happymaps.networks import Network, load_network
from happymaps.params import Params, View, load_study
from happymaps.stages.layout import (
    CAST,
    METRICS,
    MODELS,
    PLOTS,
    PROCESSED,
    TURNED,
    heads_of,
)
from happymaps.stages.sets import Study, heads_in, parts
from happymaps.understanding.attributions import CONTROLS, attribute, with_controls
from happymaps.understanding.diagnosis import (
    LEFT_YAW,
    describe,
    diagnose,
    shown_classes,
    turn_curve,
    turn_row,
)
from happymaps.understanding.faithfulness import Curves, curves, decided_by_detail, faithfulness
from happymaps.understanding.focus import box_masks, focus, head_or_background
from happymaps.understanding.intervals import FEWEST
from happymaps.understanding.invariance import Position, mirror, position
from happymaps.understanding.sanity import sanity

Maps = dict[str, Tensor]
# The head found in each image of a set that was looked at.
Heads = dict[str, Box | None]

_SHOWN = 5  # images of the cast on their sheet


def main() -> None:
    """Write metrics/audit/<network>.json, and curves and maps of what was tested.

    Of every study the explanations are tested; of faces also whether they name the head, and what
    else the decisions rest on.
    """
    name = sys.argv[1]
    params = load_study()
    configure_torch(params.threads)
    network = load_network(MODELS / f"{name}.safetensors").network.to(best_device())
    split = parts(params, network.spec)
    with replacing_folder(PLOTS / "audit" / name) as folder:
        metrics = (
            _audit_faces(name, network, split, params, folder)
            if isinstance(params, Params)
            else _audit_explanations(network, split["test"], params, folder)[0]
        )
    write_json(METRICS / "audit" / f"{name}.json", metrics)


def _audit_explanations(
    network: Network, test: LabelledImages, params: Study, folder: Path
) -> tuple[dict[str, Any], LabelledImages, Maps]:
    """Faithfulness and sanity of every method; what of `test` was explained, and the maps."""
    methods = with_controls(params.attributions.methods)
    explained, testable = _to_explain(network, test, params)
    images, classes = _inputs_and_answers(network, explained.images)
    found: dict[str, Curves] = {}
    maps: Maps = {}
    sane: dict[str, Any] = {}
    few = slice(params.audit.randomised)
    for method in tqdm(methods, unit="method", desc="auditing explanations"):
        explain = partial(attribute, method, params=params.attributions, seed=params.seed)
        maps[method] = explain(network, images, classes)
        found[method] = curves(
            network,
            images,
            classes,
            maps[method],
            blur=params.attributions.blur,
            steps=params.audit.steps,
            cell=params.audit.cell,
            seed=params.seed,
        )
        explain_few = partial(explain, images=images[few], classes=classes[few])
        sane[method] = sanity(
            maps[method][few],
            explain_few,
            network,
            seed=params.seed,
            networks=params.audit.random_networks,
        )
    _draw_faithfulness(folder / "faithfulness.png", found)
    _draw_sanity(folder / "sanity.png", sane)
    faithful = faithfulness(found, seed=params.seed) if testable else {}
    counts = classes.bincount(minlength=len(network.spec.classes)).tolist()
    by_class = dict(zip(network.spec.classes, counts, strict=True))
    count = len(explained)
    figures = {"images": count, "by_class": by_class, "sanity": sane, "faithfulness": faithful}
    return figures, explained, maps


def _audit_faces(
    name: str, network: Network, split: dict[str, LabelledImages], params: Params, folder: Path
) -> dict[str, Any]:
    test = split["test"]
    heads = heads_in(params, network.spec)
    figures, explained, maps = _audit_explanations(network, test, params, folder)
    masks = _masks(explained, heads)
    cast, cast_masks = _load_cast(params, network.spec.crop)
    images, answers = _inputs_and_answers(network, cast.images)
    cast_maps = _maps_of_cast(network, images, answers, params)
    failures = failures_of(figures, list(maps))
    titles = [
        f"{pose}: {network.spec.classes[answer]}"
        for pose, answer in zip(cast.truth["pose"], answers.tolist(), strict=True)
    ]
    _draw_cast(folder / "cast.png", name, images, titles, cast_masks, cast_maps, failures)
    return {
        **figures,
        "focus": {
            method: {
                "faces": focus(maps[method], masks),
                "cast": focus(cast_maps[method], cast_masks),
            }
            for method in maps
        },
        "background": head_or_background(network, test, _masks(test, heads), params.seed),
        "position": _audit_position(name, network, test, params, folder),
        "mirror": mirror(network, test),
        "diagnosis": _diagnose(network, split, heads, params),
    }


def _maps_of_cast(network: Network, images: Tensor, answers: Tensor, params: Params) -> Maps:
    return {
        method: attribute(method, network, images, answers, params.attributions, seed=params.seed)
        for method in tqdm(
            with_controls(params.attributions.methods), unit="method", desc="explaining the cast"
        )
    }


def _to_explain(
    network: Network, test: LabelledImages, params: Study
) -> tuple[LabelledImages, bool]:
    """A seeded choice among the images whose right answer their detail decides.

    The answers take turns, as long as there are images of each. Where there is no such image at
    all, faithfulness cannot be tested (False): then it is a choice among all of them.
    """
    images, answers = _inputs_and_answers(network, test.images)
    right = answers == test.labels(network.spec)
    decided = right & decided_by_detail(network, images, answers, params.attributions.blur)
    testable = bool(decided.any())
    candidates = np.flatnonzero(decided.numpy()) if testable else np.arange(len(test))
    order = np.random.default_rng(params.seed).permutation(candidates)
    chosen = in_turns(order, answers.numpy()[order])[: params.audit.images]
    if len(chosen) < FEWEST:
        found = f"{len(chosen)} images" if testable else "no image"
        print(f"note: {found} to test explanations on; of fewer than {FEWEST} none can pass")
    return test.take(chosen), testable


def in_turns(rows: NDArray[np.intp], kinds: NDArray[np.int64]) -> NDArray[np.intp]:
    """The same rows, one of each kind after the other as long as there are some of it."""
    turn = pd.Series(kinds).groupby(kinds).cumcount()
    return rows[turn.argsort(kind="stable")]


def _inputs_and_answers(network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 images as the network's input, and the number of the class it answers to each."""
    return to_input(images), logits_of(network, images).argmax(dim=1)


def _load_cast(params: Params, view: View) -> tuple[LabelledImages, Tensor]:
    """A seeded choice of the drawn cast, and the exact masks (N, H, W) of their heads."""
    cast = load_faces(CAST, view)
    some = cast.some(params.audit.images // 2, params.seed)
    masks = torch.from_numpy(np.load(CAST / f"{view}_masks.npy"))
    return some, masks[torch.tensor(some.truth.index)]


def _audit_position(
    name: str, network: Network, test: LabelledImages, params: Params, folder: Path
) -> dict[str, Any]:
    found = position(
        network,
        test,
        images=params.audit.images,
        reach=params.audit.reach,
        offsets=params.audit.offsets,
        scales=params.audit.scales,
        seed=params.seed,
    )
    _draw_position(folder / "position.png", name, found)
    return found.figures()


def _diagnose(
    network: Network, split: dict[str, LabelledImages], heads: Heads, params: Params
) -> dict[str, Any]:
    """Per recorded person, what sets them apart and what each difference costs, costliest first."""
    view = network.spec.crop
    turned = torch.from_numpy(np.load(TURNED / f"{view}.npy")).unsqueeze(1)
    curve = turn_curve(network, turned, torch.from_numpy(np.load(TURNED / "yaws.npy")))
    others = [yaw for yaw in curve if yaw != params.audit.turn]
    full = min(others, key=lambda yaw: abs(yaw - LEFT_YAW))
    training = _described(split["train"], heads)
    test_heads = [heads[image] for image in split["test"].truth["image"]]
    recordings = load_faces(PROCESSED / "recordings", view)
    # Two words, which no subject's name has.
    tables: dict[str, Any] = {"drawn heads": {f"{yaw:g}": share for yaw, share in curve.items()}}
    for subject in params.subjects:
        person = _described(recordings, read_heads(heads_of("recordings"), subject, view))
        poses = set(person["pose"])
        classes = len(shown_classes(network.spec, poses))
        turn = turn_row(curve, full, params.audit.turn, classes) if "left" in poses else None
        rows = diagnose(network, split["test"], test_heads, training, person, turn)
        tables[subject] = {
            row["difference"]: {key: value for key, value in row.items() if key != "difference"}
            for row in rows
        }
    return tables


def _described(faces: LabelledImages, heads: Heads) -> pd.DataFrame:
    """How the heads of those faces look that were looked for."""
    some = faces.subset(faces.truth["image"].isin(heads))
    return describe(some, [heads[image] for image in some.truth["image"]])


def _masks(faces: LabelledImages, heads: Heads) -> Tensor:
    """(N, H, W) bool: where the head of each is."""
    boxes = [heads[image] for image in faces.truth["image"]]
    return box_masks(boxes, *faces.images.shape[2:])


def _draw_faithfulness(path: Path, found: dict[str, Curves]) -> None:
    def lines(kind: str) -> list[Curve]:
        means = {method: getattr(one, kind).mean(dim=0) for method, one in found.items()}
        return [
            Curve(method, np.linspace(0, 1, len(mean)).tolist(), mean.tolist(), method in CONTROLS)
            for method, mean in means.items()
        ]

    panels = {
        "deletion: the faster down the better": lines("deletion"),
        "insertion: the faster up the better": lines("insertion"),
    }
    draw_curves(path, panels, x="share of pixels", y="confidence")


def _draw_sanity(path: Path, figures: dict[str, dict[str, Any]]) -> None:
    panels = {
        title: [
            Curve(
                method,
                ["trained", *found["cascade"]],
                [1.0, *(layer[key] for layer in found["cascade"].values())],
                method in CONTROLS,
            )
            for method, found in figures.items()
        ]
        for key, title in (
            ("correlation", "rank correlation with the trained network's maps"),
            ("ssim", "structural similarity to the trained network's maps"),
        )
    }
    likeness = "likeness, by the first random network"
    draw_curves(path, panels, x="random from the last layer down to", y=likeness)


def _draw_position(path: Path, name: str, found: Position) -> None:
    names = [f"{100 * offset:+.0f}%" for offset in found.offsets]
    panels = {
        f"{kind} at {scale:g}": scores[number]
        for number, scale in enumerate(found.scales)
        for kind, scores in (("left turns", found.score_left), ("others", found.score_others))
    }
    title = f"{name}: output for left, the face moved across (columns) and down (rows), and scaled"
    draw_heat_maps(path, title, names, panels, least=0, columns=2)


def _draw_cast(
    path: Path,
    name: str,
    images: Tensor,
    titles: Sequence[str],
    masks: Tensor,
    maps: Maps,
    failures: Failures,
) -> None:
    """Some drawn heads with their masks and every method's map: nobody here exists."""
    rows = []
    pixels = to_pixels(images.numpy())
    count = min(_SHOWN, len(images))
    methods = [marked(method, failures) for method in maps]
    for number in np.linspace(0, len(images) - 1, count).round().astype(int).tolist():
        image = images[number].numpy()
        shown = [pixels[number], np.asarray(masks[number] * 255, np.uint8)]
        shown += [heat(image, one[number].numpy()) for one in maps.values()]
        rows.append(Row("", shown, [titles[number], "head", *methods]))
    title = (
        f"{name} on the drawn cast (above each head: its pose, and the answer; red speaks for the"
        " answer, blue against it; X: did not pass its audit)"
    )
    draw_sheet(path, title, rows, 2 + len(maps))


if __name__ == "__main__":
    exit_on_error(main)
