"""The drawn cast, cropped as the pipeline crops photographs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from happymaps.images.faces import find_face
from happymaps.params import Params
from happymaps.sources.turned import draw_turned
from happymaps.stages import cast
from happymaps.stages.layout import CAST, TURNED
from toys import ROOT, crop

PEOPLE = 2


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project of two drawn people."""
    folder = tmp_path_factory.mktemp("cast")
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["crop"]["size"] = 64
    content["audit"]["people"] = PEOPLE
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cast.main()
    return folder


def test_heads_turned_left_where_few_faces_are_found_are_as_large_as_those_turned_right(
    drawn: Path,
) -> None:
    poses = pd.read_csv(drawn / CAST / "truth.csv")["pose"]
    masks = np.load(drawn / CAST / "face_masks.npy")
    assert masks.shape == (len(poses), 64, 64)
    share = pd.Series(masks.mean(axis=(1, 2))).groupby(poses).median()
    assert share["left"] == pytest.approx(share["right"], rel=0.2)


def test_a_turned_head_without_a_face_is_cut_out_where_its_person_s_others_are(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(drawn)
    params = Params.load()
    yaws = np.load(TURNED / "yaws.npy")
    pictures, angles = draw_turned(PEOPLE, yaws[: len(yaws) // PEOPLE].tolist(), params.seed)
    assert angles.tolist() == yaws.tolist()
    views = np.load(TURNED / "face.npy")
    lost = [number for number, picture in enumerate(pictures) if find_face(picture) is None]
    assert lost
    for number in lost:
        square = crop(pictures[number], "square", params.crop)
        assert not np.array_equal(views[number], square)
