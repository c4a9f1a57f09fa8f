"""Write the tables of README.md and studies/*/README.md anew from the committed metrics."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from happymaps.explanation import failures_of
from happymaps.understanding.attributions import with_controls

PROJECT = Path(__file__).parents[1]
PARAMS = yaml.safe_load((PROJECT / "params.yaml").read_text())
NETWORKS = list(PARAMS["networks"])
# The committed figures know nothing of a reader's own recordings, which have no address.
SUBJECTS = [one["subject"] for one in PARAMS["recordings"] if "url" in one]
SETS = ["cmu_test", *SUBJECTS]
CIFAR10 = PROJECT / "studies/cifar10"
OBJECTS = yaml.safe_load((CIFAR10 / "params.yaml").read_text())
GOALS = {"basic": "0.80", "improved": "0.87", "fast": "0.91"}
SHOWN = "improved"  # of the networks of objects, where one stands for all

Row = tuple[object, ...]
Tables = Mapping[str, Callable[[], Iterator[Row]]]


def main() -> None:
    """Replace the rows of every table whose head is known; all else stays."""
    for page, tables in PAGES.items():
        page.write_text(filled(page.read_text(), tables))


def filled(text: str, tables: Tables) -> str:
    """A page with the rows that belong to this commit's metrics.

    Args:
        text: of the page.
        tables: by their heads, what makes their rows.

    Raises:
        ValueError: when a table is not there.
    """
    for head, rows in tables.items():
        before, *found = re.split(
            rf"(^{re.escape(head)}\n\|[-|]+\|\n)(?:\|.*\n)*", text, flags=re.M
        )
        if len(found) != 2:
            raise ValueError(f"the page has {len(found) // 2} tables with the head {head}")
        kept, rest = found
        text = before + kept + "".join(_line(row) for row in rows()) + rest
    return text


def _line(row: Row) -> str:
    return "| " + " | ".join(str(cell) for cell in row) + " |\n"


def _read(kind: str, name: str | None = None, study: Path = PROJECT) -> dict[str, Any]:
    path = study / "metrics" / (f"{kind}.json" if name is None else f"{kind}/{name}.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _code(name: str) -> str:
    return f"`{name}`"


def _round(value: float, digits: int = 2) -> str:
    """Without a minus where nothing is left of the number."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _accuracies() -> Iterator[Row]:
    for name in NETWORKS:
        found = _read("test", name)
        yield (_code(name), *(_round(found[each]["accuracy"], 3) for each in SETS))


def _left_turns() -> Iterator[Row]:
    found = _read("test", "experiment0")
    for name in SETS:
        one = found[name]
        shares = ("always_not_left", "accuracy", "balanced_accuracy")
        yield (
            _code(name), one["images"], one["left"], *(_round(one[key], 3) for key in shares),
            one["false_positives"], one["false_negatives"],
        )  # fmt: skip


def _published() -> Iterator[Row]:
    train, found, leaks = (
        _read("train", "experiment0"),
        _read("test", "experiment0"),
        _read("leaks"),
    )
    random = leaks["random"]
    seeds = f"{_round(random['mean'], 4)}, standard deviation {_round(random['std'], 4)}"
    test = found["cmu_test"]
    yield ("train accuracy", "0.9893", _round(train["train_accuracy"], 4))
    yield ("test accuracy (187 images)", "0.9947", _round(test["accuracy"], 4))
    yield ("test loss", "0.0297", _round(test["loss"], 4))
    yield ("test accuracy over five seeds (`metrics/leaks.json`)", "one run", seeds)
    people = [_person(found[subject]) for subject in SUBJECTS]
    yield ("new people", "361 frames: 0.970 (5 FP, 6 FN)", "; ".join(people[:3]))
    yield ("", "375 frames: 0.867 (0 FP, 50 FN)", people[3])
    yield ("", "559 frames: 0.837 (20 FP, 71 FN)", people[4])


def _person(one: Mapping[str, Any]) -> str:
    errors = f"({one['false_positives']} FP, {one['false_negatives']} FN)"
    return f"{one['images']} frames: {_round(one['accuracy'], 3)} {errors}"


def _advice() -> Iterator[Row]:
    for name in NETWORKS:
        found = _read("happymaps", name)
        given = found["advice"]
        layers = [layer for layer in found.values() if "activation_ratio" in layer]
        # The decision layer's neurons stay.
        inner = layers[:-1]
        *_, without = given["without"].values()
        random = without["without_random"]["cmu_test"]
        spread = " to ".join(_round(random[end], 3) for end in ("lowest", "highest"))
        ratios = " ".join(
            "-" if layer["activation_ratio"] is None else _round(layer["activation_ratio"], 1)
            for layer in layers
        )
        yield (
            _code(name), given["inner_neurons"],
            *(sum(layer[kind] for layer in inner) for kind in ("dead", "twins", "static")),
            without["removed"],
            *(_round(one["balanced_accuracy"]["cmu_test"], 3) for one in (given, without)),
            f"{_round(random['mean'], 3)} ({spread})", ratios,
        )  # fmt: skip


def _decision_maps() -> Iterator[Row]:
    readability = _read("compare")["readability"]
    for name in NETWORKS:
        found = _read("happymaps", name)["decision"]
        keys = ("complementarity", "seed_stability")
        pairs = [found[prefix + key] for key in keys for prefix in ("", "untrained_")]
        yield (_code(name), *(_round(value) for value in (*pairs, *readability[name].values())))


def _claims() -> Iterator[Row]:
    for claim in _read("compare")["claims"]:
        control = "" if claim["control"] is None else _round(claim["control"])
        yield (claim["claim"], _round(claim["figure"]), control, _yes(claim["holds"]))


def _methods() -> Iterator[Row]:
    found = _read("audit", "experiment0")
    for method in with_controls(PARAMS["attributions"]["methods"]):
        faithful, sane = found["faithfulness"][method], found["sanity"][method]
        _, most = sane["correlation_interval"]
        faces, cast = found["focus"][method]["faces"], found["focus"][method]["cast"]
        yield (
            _code(method), _round(faithful["deletion"]), _round(faithful["insertion"]),
            _yes(faithful["beats_random"]),
            f"{_round(sane['correlation'])} ({_round(most)})", _yes(sane["passes"]),
            f"{_round(faces['share'])} of {_round(faces['area'])}", _round(faces["pointing"]),
            f"{_round(cast['share'])} of {_round(cast['area'])}",
        )  # fmt: skip


def _what_decides() -> Iterator[Row]:
    for name in NETWORKS:
        found = _read("audit", name)
        where, background = found["position"], found["background"]
        kinds = ("balanced_accuracy", "balanced_head_only", "balanced_background_only")
        shares = (where["share"], where["share_left"], found["mirror"]["share"])
        yield (
            _code(name),
            *(_round(one) for one in (*shares, *(background[kind] for kind in kinds))),
        )


def _differences() -> Iterator[Row]:
    heads, found = _read("heads"), _read("audit", "experiment0")["diagnosis"]
    for subject in SUBJECTS:
        seen = f"{heads[subject]['heads_found']} of {heads[subject]['images']}"
        costs = [
            f"{difference} {_round(row['cost'])}"
            for difference, row in found[subject].items()
            if row["cost"] is not None
        ]
        yield (_code(subject), seen, ", ".join(costs))


def _never_seen() -> Iterator[Row]:
    for name in [one for one in NETWORKS if one in PARAMS["cross_validate"]["networks"]]:
        folds, recorded = _read("cross_validate", name), _read("test", name)["recordings"]
        own, left = folds["accuracy"], folds["left_accuracy"]
        figures = (own["mean"], own["std"], own["worst_person"], left["mean"], left["worst_person"])
        yield (
            _code(name), *(_round(one, 3) for one in figures),
            _round(recorded["left_balanced_accuracy"], 3),
            f"{recorded['false_negatives']} of {recorded['left']}", recorded["false_positives"],
            _round(recorded["accuracy"], 3), _round(recorded["worst_person"], 3),
        )  # fmt: skip


def _leaks() -> Iterator[Row]:
    found = _read("leaks")
    for method in ("random", "by_photograph", "by_person"):
        runs = found[method]["by_seed"].values()
        figures = (found[method]["mean"], found[method]["std"], min(runs), max(runs))
        yield (_code(method), *(_round(one, 3) for one in figures))


def _steps() -> Iterator[Row]:
    changes = {step["name"]: step["changes"] for step in PARAMS["steps"]}
    generalist = PARAMS["networks"]["generalist"]
    longer = {key: generalist[key] for key in ("epochs", "test_time_augmentation")}
    for name, change in [("experiment0", {}), *changes.items(), ("generalist", longer)]:
        found = _read("cross_validate", name)
        own, left, recorded = (found[key] for key in ("accuracy", "left_accuracy", "recordings"))
        command = " ".join(f"{key}={_value(value)}" for key, value in change.items())
        yield (
            _code(name), _code(command) if command else "",
            *(_round(one["mean"], 3) for one in (own, left)), _round(left["worst_person"], 3),
            *(_round(recorded[key], 3) for key in ("left_balanced_accuracy", "accuracy")),
        )  # fmt: skip


def _objects() -> Iterator[Row]:
    for name in OBJECTS["networks"]:
        train, test = (_read(kind, name, CIFAR10) for kind in ("train", "test"))
        by_class = test["test"]["by_class"]
        extremes = (max(by_class, key=by_class.get), min(by_class, key=by_class.get))
        yield (
            _code(name), train["parameters"], train["epochs"],
            *(_round(train[f"{part}_accuracy"], 3) for part in ("train", "validation")),
            _round(test["test"]["accuracy"], 4), _round(test["test"]["loss"], 3),
            *(f"{one} {_round(by_class[one], 3)}" for one in extremes),
        )  # fmt: skip


def _objects_in_short() -> Iterator[Row]:
    trusted = dict(_trusted(OBJECTS, CIFAR10))
    for name, goal in GOALS.items():
        accuracy = _read("test", name, CIFAR10)["test"]["accuracy"]
        yield (_code(name), _round(accuracy, 4), goal, trusted[_code(name)])


def _layers() -> Iterator[Row]:
    for layer, one in _read("complexity", SHOWN, CIFAR10).items():
        digits = {"colour_variance": 3, "spatial_frequency": 1, "orientation_entropy": 2}
        pairs = [
            f"{_round(one[key], count)} ({_round(one['untrained'][key], count)})"
            for key, count in digits.items()
        ]
        yield (_code(layer), one["neurons"], one["dead"], *pairs)


def _trusted(params: dict[str, Any], study: Path) -> Iterator[tuple[str, str]]:
    names = params["attributions"]["methods"]
    for name in params["networks"]:
        failures = failures_of(_read("audit", name, study), names)
        passed = [_code(one) for one in names if not failures.get(one)]
        yield (_code(name), ", ".join(passed) or "none")


def _value(value: object) -> str:
    return str(value).replace(" ", "").lower()


FACES: Tables = {
    "| network | `cmu_test` | `intel_woman` | `intel_man` | `pexels_woman` | `liveportrait_man`"
    " | `liveportrait_woman` |": _accuracies,
    '| `experiment0` on | images | looking left | "never left" scores | accuracy'
    " | balanced accuracy | false positives | false negatives |": _left_turns,
    "| | published | here |": _published,
    "| network | inner neurons | dead | twins | static | taken out | balanced accuracy before"
    " | after | at random instead | map / best image, layer by layer |": _advice,
    "| network | complement | untrained | stable over seeds | untrained | readability | untrained"
    " | shuffled labels |": _decision_maps,
    "| claim | figure | control | holds |": _claims,
    "| method | deletion | insertion | faithful | random weights | sane | on heads | pointing"
    " | on drawn heads |": _methods,
    "| network | passes both |": partial(_trusted, PARAMS, PROJECT),
    "| network | position | left turns | mirror | as they are | head only | background only |": (
        _what_decides
    ),
    "| person | heads found | costs of `experiment0` |": _differences,
    "| network | folds | standard deviation | worst person | left or not | worst person"
    " | recordings: left or not | left missed | false positives | own classes"
    " | worst person |": _never_seen,
    "| split | accuracy | standard deviation | lowest | highest |": _leaks,
    "| step | what it changes | folds | left or not | worst person | recordings: left or not"
    " | own classes |": _steps,
    "| network of objects | test accuracy | goal | explanations to trust |": _objects_in_short,
}
KINDS: Tables = {
    "| network of objects | parameters | epochs | train | validation | test | test loss"
    " | best known | least known |": _objects,
    "| layer of `improved` | neurons | dead | variance of colour | cycles per side"
    " | directions of edges |": _layers,
    "| network of objects | passes both |": partial(_trusted, OBJECTS, CIFAR10),
}
PAGES = {PROJECT / "README.md": FACES, CIFAR10 / "README.md": KINDS}

if __name__ == "__main__":
    main()
