"""The pages' figures are those of the committed metrics, and their links lead somewhere."""

import hashlib
import importlib.util
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
import yaml

from toys import ROOT

SPEC = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
assert SPEC is not None
assert SPEC.loader is not None
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)

PAGES = list(tables.PAGES)
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_are_those_of_the_committed_metrics(page: Path) -> None:
    """After a change of the results, `python docs/tables.py` writes them anew."""
    text = page.read_text()
    assert tables.filled(text, tables.PAGES[page]) == text


def test_a_figure_that_was_changed_by_hand_is_put_right() -> None:
    figure = re.search(r"(?<=\| `by_person` \| )0\.\d{3}", README)
    assert figure is not None
    wrong = README[: figure.start()] + "0.123" + README[figure.end() :]
    assert tables.filled(wrong, tables.FACES) == README


def test_a_table_that_is_gone_is_missed() -> None:
    changed = README.replace("| claim | figure |", "| claim | number |")
    with pytest.raises(ValueError, match="0 tables"):
        tables.filled(changed, tables.FACES)


def test_the_pictures_are_those_of_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are copies; after a change of the results, `python docs/draw.py` draws all."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    copies = importlib.import_module("draw").COPIES
    assert len(copies) == 3
    sums = {}
    for folder in (ROOT, ROOT / "studies/cifar10"):
        lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
        for out in (out for stage in lock.values() for out in stage.get("outs", [])):
            sums[folder / out["path"]] = out["md5"]
    for source, picture in copies.items():
        assert (
            hashlib.md5((ROOT / "docs" / picture).read_bytes()).hexdigest() == sums[ROOT / source]
        )


def measured(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / f"benchmarks/{name}.json").read_text())
    return content


def test_what_is_said_of_strangers_was_measured() -> None:
    found = measured("strangers")
    said = " ".join(README.split("**Strangers.**")[1].split("**What explanations")[0].split())
    assert f"right in {found['experiment0']['accuracy']:.3f} of them" in said
    generalist = found["generalist"]
    assert "gives all 200 photographs their pose" in said
    assert (generalist["images"], generalist["accuracy"]) == (200, 1)
    before_the_figure = {
        "cut to the face": "cut down to the face",
        "small": "in a picture of 1280x720",
        "leaning": "leaning by 20 degrees",
        "dark on one side": "dark on one side of the face",
        "shaken": "by a ninth of the face's width,",
        "by webcam": "strongly compressed,",
        "partly outside": "beyond the picture's edge",
        "far too dark": "until an eye barely finds the face,",
    }
    assert set(generalist["ways"]) == set(before_the_figure)
    for way, phrase in before_the_figure.items():
        figure = re.search(rf"{phrase} (\d\.\d+)", said)
        assert figure is not None, phrase
        assert float(figure[1]) == round(generalist["ways"][way]["accuracy"], 3), phrase


def test_how_fast_it_is_said_to_be_was_measured() -> None:
    said = " ".join(README.split("## How fast")[1].split("## The house")[0].split())
    augmentation, training, maps = map(measured, ("augmentation", "training", "happymaps"))
    explained, extraction, reproduced = map(measured, ("explanations", "extraction", "reproduce"))
    hiding, pixels, lime = (explained[of] for of in ("occlusion", "pixel_importance", "lime"))
    step, idle = augmentation["training_step"], reproduced["nothing_to_do_seconds"]
    keras = statistics.median(training["rounds"]["keras_tensorflow"])
    reached = maps["activation"]["happymaps"] / maps["activation"]["torch_lucent"]
    everything = maps["all_networks"]
    for phrase in (
        f"{augmentation['augmentation']} ms beside {step} ms for 32 images, "
        f"{augmentation['ratio']} of it",
        f"{reproduced['reproduce_minutes']:.1f} minutes on the newer, at most "
        f"{reproduced['peak_memory_mib']} MiB",
        f"{idle['median']:.1f} s (median of 9; the worst {idle['worst']:.1f} s)",
        f"{extraction['ratio']:.2f} times its time",
        f"takes {extraction['ten_times_longer_time_ratio']:.1f} times as long",
        f"{training['happymaps']:.0f} images/s; Keras {training['versions']['keras']} on "
        f"TensorFlow {training['versions']['tensorflow']}: {training['keras_tensorflow']:.0f} with "
        f"XLA (its default), {training['keras_tensorflow_without_xla']:.0f} without",
        f"{training['ratio']} times as fast as Keras's best, and the median "
        f"{training['ratio_of_medians']} times as fast as Keras's median ({keras:.0f} images/s:",
        f"{hiding['happymaps']:.1f} to {hiding['captum']:.2f}, {pixels['happymaps']:.1f} to "
        f"{pixels['captum']:.3f}: {hiding['ratio']:.0f} and {pixels['ratio']:.0f} times as many, "
        f"maps correlating by {hiding['correlation']:.3f} and {pixels['correlation']:.3f}",
        f"{lime['happymaps']:.1f} to {lime['captum']:.2f} and {lime['lime_package']:.2f}: "
        f"{lime['ratio']:.0f} times as many as the faster; maps correlating by "
        f"{lime['correlation']['lime_package']:.3f} with the package's and by "
        f"{lime['correlation']['captum']:.2f} with Captum's",
        f"({', '.join(f'{stable:.4f}' for stable in lime['stability'].values())} over three seeds)",
        f"{maps['happymaps']:.1f} maps/s (in {maps['computed_in']}) to {maps['torch_lucent']:.1f} "
        f"and {maps['tf_keras_vis']:.1f}: {maps['ratio']:.1f} times as many as the faster, and they"
        f" reach {reached:.1f} times its activation. One by one torch-lucent and tf-keras-vis make "
        f"{maps['torch_lucent_one_by_one']:.1f} and {maps['tf_keras_vis_one_by_one']:.1f}: "
        f"{maps['ratio_one_by_one']:.1f} times as many",
        f"{maps['matrix_product_gflops']:.0f} GFLOP/s in bfloat16), would make "
        f"{maps['floor_maps_per_second']:.1f} maps/s, of which this project's are "
        f"{maps['share_of_floor']:.2f}",
        f"{everything['minutes']:.1f} minutes, at most {everything['peak_memory_mib']} MiB",
    ):
        assert phrase in said


def test_what_is_said_of_neurons_of_objects_that_are_removed_was_measured() -> None:
    said = " ".join((ROOT / "studies/cifar10/README.md").read_text().split())
    removed, at_random = [], []
    for network in ("basic", "improved", "fast"):
        file = ROOT / f"studies/cifar10/metrics/happymaps/{network}.json"
        advice = json.loads(file.read_text())["advice"]
        found = advice["without"]["dead_and_twin_and_static"]
        removed.append(f"{found['removed']} of {advice['inner_neurons']}")
        assert f"{found['balanced_accuracy']['test']:.2f}" == "0.10"
        at_random.append(f"{found['without_random']['test']['mean']:.2f}")
    one, two, three = removed
    assert f"{one} neurons of `basic`, {two} of `improved`, {three} of `fast`" in said
    assert "test accuracy 0.10), and as far, or nearly, without as many at random" in said
    one, two, three = at_random
    assert f"at random ({one}, {two} and {three};" in said
    single = f"{advice['balanced_accuracy']['test']:.4f}"
    assert f"with a single look it has {single}" in said


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    inner = [link for link in links if "://" not in link]
    assert inner
    for link in inner:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """Those that a forge makes of a page's headings: lower case, no punctuation, hyphens."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
