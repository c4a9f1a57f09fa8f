from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from happymaps.datasets import load_faces, load_parts, to_input
from happymaps.errors import InputError
from happymaps.params import NetworkParams
from toys import toy_faces


def bright(*values: int) -> NDArray[np.uint8]:
    return np.full((len(values), 16, 16), np.array(values)[:, None, None], np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images, the third without truth; image N is N*10 bright."""
    np.save(tmp_path / "images.npy", bright(0, 10, 20, 30))
    (tmp_path / "truth.csv").write_text(
        "image,left,pose,subject\n000000.png,1,left,ann\n000001.png,0,up,ann\n"
        "000002.png,,,bob\n000003.png,0,right,bob\n"
    )
    (tmp_path / "split.csv").write_text(
        "image,part\n000000.png,train\n000001.png,test\n000003.png,train\n"
    )
    return tmp_path


def test_unlabelled_images_are_left_out_and_the_rest_keep_their_truth(folder: Path) -> None:
    faces = load_faces(folder)
    assert faces.images.shape == (3, 1, 16, 16)
    assert faces.images[:, 0, 0, 0].tolist() == [0, 10, 30]
    assert faces.truth["left"].tolist() == [1, 0, 0]


def test_a_part_is_what_the_split_says(folder: Path) -> None:
    parts = load_parts(folder, folder / "split.csv")
    assert parts["train"].truth["image"].tolist() == ["000000.png", "000003.png"]
    assert parts["train"].images[:, 0, 0, 0].tolist() == [0, 30]
    assert parts["test"].images[:, 0, 0, 0].tolist() == [10]


def test_shuffled_labels_are_the_same_labels_of_other_images() -> None:
    faces = toy_faces(60)
    shuffled, again, other = (faces.shuffled(seed) for seed in (0, 0, 1))
    assert torch.equal(shuffled.images, faces.images)
    for column in ("image", "subject"):
        assert shuffled.truth[column].tolist() == faces.truth[column].tolist()
    assert sorted(shuffled.truth["pose"]) == sorted(faces.truth["pose"])
    assert (shuffled.truth["pose"] == faces.truth["pose"]).mean() < 0.5
    assert ((shuffled.truth["pose"] == "left") == (shuffled.truth["left"] == 1)).all()
    assert shuffled.truth.equals(again.truth)
    assert not shuffled.truth.equals(other.truth)
    assert faces.truth.equals(toy_faces(60).truth)


def test_labels_are_the_numbers_of_the_networks_classes(spec: NetworkParams) -> None:
    faces = toy_faces(20)
    for target in ("left", "pose"):
        aimed = spec.model_copy(update={"target": target})
        names = [aimed.classes[label] for label in faces.labels(aimed).tolist()]
        expected = faces.truth["pose"].tolist()
        if target == "left":
            expected = ["left" if pose == "left" else "not left" for pose in expected]
        assert names == expected


def test_input_is_scaled_to_one() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)
    assert to_input(images).flatten().tolist() == pytest.approx([0, 0.2, 1])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "truth.csv").unlink(), "truth.csv"),
        (lambda f: (f / "truth.csv").write_text("image,pose\n"), "columns"),
        (lambda f: (f / "images.npy").unlink(), r"images\.npy: cannot be read"),
        (lambda f: (f / "images.npy").write_bytes(b"\x93NUMPY"), r"images\.npy: cannot be read"),
        (lambda f: np.save(f / "images.npy", np.array([None])), r"images\.npy: cannot be read"),
        (lambda f: np.save(f / "images.npy", bright(1, 2, 3)), r"should be \(4, H, W\) uint8"),
        (lambda f: np.save(f / "images.npy", np.zeros((4, 8, 8))), "float64, should be"),
        (lambda f: (f / "split.csv").write_text("image,part\n000000.png,test\n"), "000001.png"),
        (
            lambda f: pd.read_csv(f / "split.csv").assign(part="test").to_csv(f / "split.csv"),
            "no image has the part 'train'",
        ),
    ],
)
def test_spoilt_data_are_named(folder: Path, spoil: object, message: str) -> None:
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        load_parts(folder, folder / "split.csv")
