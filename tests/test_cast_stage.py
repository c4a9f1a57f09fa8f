"""The drawn cast, cropped as the pipeline crops photographs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from happymaps.images.crop import cut_out, part_of
from happymaps.images.faces import find_face
from happymaps.params import Params
from happymaps.sources.turned import draw_turned
from happymaps.stages import cast
from happymaps.stages.layout import CAST, TURNED
from toys import ROOT

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
    faces = [find_face(picture) for picture in pictures]
    lost = [number for number, face in enumerate(faces) if face is None]
    assert lost
    angles_each = len(yaws) // PEOPLE
    for number in lost:
        first = number - number % angles_each
        last = first + angles_each
        places = [
            part_of(picture.shape, face, "face", params.crop)
            for picture, face in zip(pictures[first:last], faces[first:last], strict=True)
            if face is not None
        ]
        place = tuple(np.median(places, axis=0))
        expected = cut_out(pictures[number], place, params.crop).astype(int)
        assert np.abs(views[number] - expected).max() <= 1
