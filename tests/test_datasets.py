from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from happymaps.datasets import (
    load_faces,
    load_objects,
    load_parts,
    load_test_sets,
    load_training,
    parts_of,
    read_heads,
    to_input,
)
from happymaps.errors import InputError
from happymaps.images.boxes import Box
from happymaps.params import OBJECTS, POSES, NetworkParams
from toys import toy_faces


def bright(*values: int) -> NDArray[np.uint8]:
    return np.full((len(values), 16, 16), np.array(values)[:, None, None], np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images, the third without truth; image N is N*10 bright, and by 5 more in its face."""
    np.save(tmp_path / "plain.npy", bright(0, 10, 20, 30))
    np.save(tmp_path / "face.npy", bright(5, 15, 25, 35))
    (tmp_path / "truth.csv").write_text(
        "image,left,pose,subject\n000000.png,1,left,ann\n000001.png,0,up,ann\n"
        "000002.png,,,bob\n000003.png,0,right,bob\n"
    )
    (tmp_path / "split.csv").write_text(
        "image,part\n000000.png,train\n000001.png,test\n000003.png,train\n"
    )
    return tmp_path


def test_unlabelled_images_are_left_out_and_the_rest_keep_their_truth(folder: Path) -> None:
    faces = load_faces(folder, "plain")
    assert faces.images.shape == (3, 1, 16, 16)
    assert faces.images[:, 0, 0, 0].tolist() == [0, 10, 30]
    assert faces.truth["left"].tolist() == [1, 0, 0]
    assert load_faces(folder, "face").images[:, 0, 0, 0].tolist() == [5, 15, 35]


def test_a_part_is_what_the_split_says(folder: Path) -> None:
    parts = load_parts(folder, folder / "split.csv", "plain")
    assert parts["train"].truth["image"].tolist() == ["000000.png", "000003.png"]
    assert parts["train"].images[:, 0, 0, 0].tolist() == [0, 30]
    assert parts["test"].images[:, 0, 0, 0].tolist() == [10]
    faces = load_parts(folder, folder / "split.csv", "face")
    assert faces["train"].images[:, 0, 0, 0].tolist() == [5, 35]


def test_a_network_is_tested_on_the_test_part_and_on_every_subject_by_name(folder: Path) -> None:
    processed = folder / "processed"
    processed.mkdir()
    for name in ("cmu_faces", "recordings"):
        (processed / name).symlink_to(folder, target_is_directory=True)
    subjects = ["bob", "zoe", "ann"]
    sets = load_test_sets(processed, folder / "split.csv", subjects, "face")
    assert list(sets) == ["cmu_test", *subjects]
    shades = {name: faces.images[:, 0, 0, 0].tolist() for name, faces in sets.items()}
    assert shades == {"cmu_test": [15], "bob": [35], "zoe": [], "ann": [5, 15]}


def test_heads_are_those_of_a_set_in_a_view(tmp_path: Path) -> None:
    path = tmp_path / "heads.csv"
    path.write_text(
        "set,view,image,left,top,right,bottom\n"
        "cmu_faces,plain,000000.png,-3,2,60,70\ncmu_faces,face,000000.png,1,2,3,4\n"
        "cmu_faces,plain,000001.png,,,,\nnan,plain,000001.png,5,6,7,8\n"
    )
    found = read_heads(path, "cmu_faces", "plain")
    assert found == {"000000.png": Box(-3, 2, 60, 70), "000001.png": None}
    assert read_heads(path, "cmu_faces", "face") == {"000000.png": Box(1, 2, 3, 4)}
    # Somebody is called that.
    assert read_heads(path, "nan", "plain") == {"000001.png": Box(5, 6, 7, 8)}
    assert read_heads(path, "nobody", "plain") == {}


def test_a_network_learns_from_the_training_part_in_every_view_with_its_heads(
    folder: Path,
) -> None:
    rows = [
        f"{folder.name},{view},00000{number}.png,{left},0,{left + 9},9"
        for view, more in (("plain", 0), ("face", 1))
        for number, left in ((0, more), (1, 10 + more), (3, 30 + more))
    ]
    head = "set,view,image,left,top,right,bottom"
    (folder / "heads.csv").write_text("\n".join([head, *rows]))
    learned, heads = load_training(folder, folder / "split.csv", ("face", "plain"))
    assert learned.images[:, 0, 0, 0].tolist() == [5, 35, 0, 30]
    assert learned.truth["pose"].tolist() == ["left", "right"] * 2
    assert [box and box.left for box in heads] == [1, 31, 0, 30]


def test_rows_are_taken_with_their_truth() -> None:
    faces = toy_faces(30)
    taken = faces.take(np.array([7, 2, 7]))
    assert torch.equal(taken.images, faces.images[[7, 2, 7]])
    assert taken.truth["image"].tolist() == ["000007.png", "000002.png", "000007.png"]
    assert [POSES[number] for number in taken.kinds()] == taken.truth["pose"].tolist()


def test_some_rows_are_a_seeded_choice_in_their_order() -> None:
    faces = toy_faces(30)
    some, again, other = (faces.some(10, seed).truth["image"].tolist() for seed in (0, 0, 1))
    assert some == sorted(set(some)) == again
    assert len(some) == 10
    assert some != other
    assert faces.some(99, seed=0).truth.equals(faces.truth)


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


@pytest.fixture
def objects_folder(tmp_path: Path) -> Path:
    """Six pictures, each of one colour that tells its number."""
    images = np.zeros((6, 8, 8, 3), np.uint8)
    images[..., 0] = np.arange(6)[:, None, None]
    images[..., 2] = 100
    images[:, 0, 1, 2] = 50  # in the first row
    np.save(tmp_path / "plain.npy", images)
    objects = ["cat", "dog", "cat", "ship", "frog", "airplane"]
    parts = ["train"] * 4 + ["test"] * 2
    truth = pd.DataFrame({"image": list("abcdef"), "object": objects, "part": parts})
    truth.to_csv(tmp_path / "truth.csv", index=False)
    return tmp_path


def test_objects_are_loaded_in_colour_with_their_truth(
    objects_folder: Path, spec: NetworkParams
) -> None:
    found = load_objects(objects_folder)
    assert found.images.shape == (6, 3, 8, 8)
    assert found.images[:, :, 0, 0].tolist() == [[number, 0, 100] for number in range(6)]
    assert (found.images[:, 2, 0, 1] == 50).all()
    assert not found.are_faces
    assert [OBJECTS[kind] for kind in found.kinds()] == found.truth["object"].tolist()
    asked = spec.model_copy(update={"target": "object"})
    assert torch.equal(found.labels(asked), found.kinds())
    assert asked.classes == OBJECTS == found.names
    shuffled = found.shuffled(seed=1)
    assert sorted(shuffled.truth["object"]) == sorted(found.truth["object"])
    assert shuffled.truth["object"].tolist() != found.truth["object"].tolist()
    assert shuffled.truth["image"].tolist() == list("abcdef")


def test_objects_are_parted_as_the_split_says(objects_folder: Path) -> None:
    split = objects_folder / "split.csv"
    split.write_text("image,part\na,validation\nb,train\nc,train\nd,train\ne,test\nf,test\n")
    parts = parts_of(load_objects(objects_folder), split, ("train", "validation", "test"))
    assert {name: part.truth["image"].tolist() for name, part in parts.items()} == {
        "train": ["b", "c", "d"], "validation": ["a"], "test": ["e", "f"],
    }  # fmt: skip
    assert parts["test"].images[:, 0, 0, 0].tolist() == [4, 5]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "truth.csv").unlink(), r"truth\.csv: cannot be read"),
        (lambda f: (f / "truth.csv").write_text("image,object\n"), "columns are"),
        (
            lambda f: (f / "truth.csv").write_text("image,object,part\na,tree,train\n"),
            r"row 2 \(a,tree,train\): object is none of airplane",
        ),
        (lambda f: np.save(f / "plain.npy", bright(*range(6))), r"should be \(6, H, W, 3\) uint8"),
        (lambda f: (f / "plain.npy").write_bytes(b""), "run the fetch_cifar10 stage again"),
    ],
)
def test_spoilt_objects_are_named(objects_folder: Path, spoil: object, message: str) -> None:
    spoil(objects_folder)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        load_objects(objects_folder)


def test_input_is_scaled_to_one() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)
    assert to_input(images).flatten().tolist() == pytest.approx([0, 0.2, 1])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "truth.csv").unlink(), "truth.csv"),
        (lambda f: (f / "truth.csv").write_text("image,pose\n"), "columns"),
        (lambda f: (f / "plain.npy").unlink(), r"plain\.npy: cannot be read"),
        (lambda f: (f / "plain.npy").write_bytes(b"\x93NUMPY"), r"plain\.npy: cannot be read"),
        (lambda f: np.save(f / "plain.npy", np.array([None])), r"plain\.npy: cannot be read"),
        (lambda f: np.save(f / "plain.npy", bright(1, 2, 3)), r"should be \(4, H, W\) uint8"),
        (lambda f: np.save(f / "plain.npy", np.zeros((4, 8, 8))), "float64, should be"),
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
        load_parts(folder, folder / "split.csv", "plain")


def test_rows_are_numbered_anew_without_the_unlabelled_ones(folder: Path) -> None:
    assert load_faces(folder, "plain").truth.index.tolist() == [0, 1, 2]
