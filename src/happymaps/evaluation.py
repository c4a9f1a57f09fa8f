"""Predictions -> figures.

scikit-learn is imported where it is needed: it takes longer than what most stages do here.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from happymaps.datasets import LabelledImages
from happymaps.networks import apply_head, loss_of
from happymaps.params import NetworkParams


def predictions(spec: NetworkParams, logits: Tensor, images: LabelledImages) -> pd.DataFrame:
    """One row per image: truth and answer.

    Args:
        spec: the network's.
        logits: (N, classes), what the network gave for `images`, before its head.
        images: the N images.

    Returns:
        Columns `image,actual,predicted,confidence`: `actual` and `predicted` are class names,
        `confidence` as in `answers`. For faces `subject,pose` stand behind `image`, and at the end
        `left_score`, the output of the decision layer's neuron for "left".
    """
    names = np.array(spec.classes)
    predicted, confidence = answers(spec, logits)
    known = ["image", "subject", "pose"] if images.are_faces else ["image"]
    table = images.truth[known].reset_index(drop=True)
    table["actual"] = names[images.labels(spec).numpy()]
    table["predicted"] = predicted
    table["confidence"] = confidence
    if images.are_faces:
        outputs = apply_head(spec, logits)
        table["left_score"] = outputs[:, spec.classes.index("left")].double().numpy()
    return table


def object_scores(
    spec: NetworkParams, logits: Tensor, images: LabelledImages, table: pd.DataFrame
) -> dict[str, Any]:
    """The figures of a test set of objects.

    Args:
        spec: the network's.
        logits: (N, classes), what the network gave for `images`, before its head.
        images: the N images.
        table: their `predictions`.

    Returns:
        `images`, how many; `accuracy`, `loss`, and `by_class` the share of each class's images that
        are recognised (its recall).
    """
    right = table["actual"] == table["predicted"]
    by_class = right.groupby(table["actual"]).mean()
    return {
        "images": len(table),
        "accuracy": float(right.mean()),
        "loss": loss_of(spec, logits, images.labels(spec)).item(),
        "by_class": {name: float(by_class[name]) for name in spec.classes if name in by_class},
    }


def answers(spec: NetworkParams, logits: Tensor) -> tuple[list[str], list[float]]:
    """Each image's class name and confidence.

    The confidence is the winning neuron's output: a probability after softmax. A linear head was
    taught to give 1 for its class and may overshoot, so there it is cut off at 0 and 1.
    """
    best = apply_head(spec, logits).max(dim=1)
    names = [spec.classes[index] for index in best.indices.tolist()]
    return names, best.values.double().clamp(0, 1).tolist()


def says_left(spec: NetworkParams, logits: Tensor) -> NDArray[np.bool_]:
    """The answers to "left or not" of (N, classes) outputs before the head: (N,).

    Of probabilities, left has to have more than all else together: of four poses the likeliest may
    still be unlikely. Outputs of a linear head are no shares of a whole; there the largest decides.
    """
    outputs, left = apply_head(spec, logits), spec.classes.index("left")
    if spec.head == "softmax":
        return (outputs[:, left] > 0.5).numpy()
    return (outputs.argmax(dim=1) == left).numpy()


def scores(spec: NetworkParams, logits: Tensor, faces: LabelledImages) -> dict[str, Any]:
    """The figures of one test set.

    `loss` is the network's own, `accuracy` and `balanced_accuracy` (the mean of the recalls of the
    classes that occur) are over the network's own classes. `false_positives` and
    `false_negatives` always speak of "left". `always_not_left` is the accuracy that "never left"
    would have: for a network of four poses too, as a left-or-not question, to which `left_accuracy`
    and `left_balanced_accuracy` are the network's answer.

    Args:
        spec: the network's.
        logits: (N, classes), what the network gave for `faces`, before its head.
        faces: the N images.

    Returns:
        Only `images: 0` for a set without labelled images.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

    if not len(faces):
        return {"images": 0}
    labels = faces.labels(spec)
    actual = labels.numpy()
    left, said_left = faces.truth["pose"] == "left", says_left(spec, logits)
    tn, fp, fn, tp = confusion_matrix(left, said_left, labels=[False, True]).ravel().tolist()
    guesses = logits.argmax(dim=1).numpy()
    return {
        "images": len(faces),
        "left": tp + fn,
        "loss": loss_of(spec, logits, labels).item(),
        "accuracy": float(accuracy_score(actual, guesses)),
        "balanced_accuracy": float(
            recall_score(actual, guesses, labels=np.unique(actual), average="macro")
        ),
        "left_accuracy": (tp + tn) / len(faces),
        "left_balanced_accuracy": float(
            recall_score(left, said_left, labels=left.unique(), average="macro")
        ),
        "always_not_left": (tn + fp) / len(faces),
        "true_positives": tp,
        "true_negatives": tn,
        "false_positives": fp,
        "false_negatives": fn,
    }


def left_roc(table: pd.DataFrame) -> pd.DataFrame:
    """The ROC curve of "left" against the rest: columns `fpr,tpr`.

    Empty where a set has no left turn or nothing else: then there is no such curve.
    """
    from sklearn.metrics import roc_curve

    left = table["pose"] == "left"
    if left.nunique() < 2:
        return pd.DataFrame({"fpr": [], "tpr": []})
    fpr, tpr, _ = roc_curve(left, table["left_score"], drop_intermediate=True)
    return pd.DataFrame({"fpr": fpr, "tpr": tpr})


def some_of(rows: Sequence[int], count: int, seed: int, name: str) -> list[int]:
    """At most `count` of the numbers of rows, in their order: a choice of its own for each name."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return sorted(generator.permutation(rows)[:count].tolist())
