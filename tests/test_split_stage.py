"""What the stage `split` counts on both sides."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from happymaps.stages import split
from happymaps.stages.layout import INTERIM, METRICS, PROCESSED, SPLIT
from toys import ROOT

PEOPLE, PHOTOGRAPHS, COPIES = 5, 8, 3  # in each of the former


@pytest.fixture
def faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Five people, half of whose photographs, at three scales each, are of left turns."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"subject": f"person{person}", "source": f"person{person}/shot{photo}{scale}.pgm",
         "left": photo % 2, "pose": ("straight", "left")[photo % 2]}
        for person in range(PEOPLE) for photo in range(PHOTOGRAPHS) for scale in ("", "_2", "_4")
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.insert(0, "image", [f"{number:06d}.png" for number in range(len(table))])
    for folder in (PROCESSED, INTERIM):
        (folder / "cmu_faces").mkdir(parents=True)
    truth = table[["image", "left", "pose", "subject"]]
    truth.to_csv(PROCESSED / "cmu_faces/truth.csv", index=False)
    table[["image", "source", "subject"]].to_csv(INTERIM / "cmu_faces/index.csv", index=False)
    return table


@pytest.mark.parametrize("method", ["random", "by_photograph", "by_person"])
def test_who_and_what_is_on_both_sides(faces: pd.DataFrame, method: str) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["split"] |= {"method": method, "test_share": 0.2}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    split.main()
    found = json.loads((METRICS / "split.json").read_text())
    test = faces[pd.read_csv(SPLIT)["part"] == "test"]
    assert found["test"] == len(test) == len(faces) // 5
    assert found["train"] == len(faces) - len(test)
    assert found["test_left"] == test["left"].sum()
    # A photograph has a test part of its own size, or none: alone by chance it is taken apart.
    photographs = test["source"].str.extract(r"(shot\d)")[0] + test["subject"]
    torn = (photographs.value_counts() < COPIES).sum()
    assert found["test_photographs_seen_in_training"] == torn
    assert (torn > 0) == (method == "random")
    assert found["test_people_seen_in_training"] == (
        0 if method == "by_person" else test["subject"].nunique()
    )
