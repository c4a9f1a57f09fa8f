"""Decide which images train the networks and which test them, and count what leaks."""

import pandas as pd

from happymaps.errors import exit_on_error
from happymaps.files import write_csv, write_json
from happymaps.labelling import read_truth
from happymaps.params import Params
from happymaps.photographs import photographs_of, read_index
from happymaps.splitting import split
from happymaps.stages.layout import INTERIM, METRICS, PROCESSED, SPLIT


def main() -> None:
    """Write data/processed/split.csv, and how many people and photographs are on both sides."""
    params = Params.load()
    truth = read_truth(PROCESSED / "cmu_faces" / "truth.csv")
    index = read_index(INTERIM / "cmu_faces")
    photographs = photographs_of(index)
    parts = split(truth, photographs, params.split, params.seed)
    write_csv(SPLIT, parts)
    test = parts["part"] == "test"
    write_json(
        METRICS / "split.json",
        {
            "train": int((~test).sum()),
            "test": int(test.sum()),
            "test_left": int(truth.loc[test, "left"].sum()),
            "test_people_seen_in_training": _shared(truth["subject"], test),
            "test_photographs_seen_in_training": _shared(photographs, test),
        },
    )


def _shared(groups: "pd.Series[str]", test: "pd.Series[bool]") -> int:
    return len(set(groups[test]) & set(groups[~test]))


if __name__ == "__main__":
    exit_on_error(main)
