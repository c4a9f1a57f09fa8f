"""The tables of decoded pictures, and which of them are copies: CMU faces come in three sizes."""

from pathlib import Path

import pandas as pd


def read_index(folder: Path) -> pd.DataFrame:
    """The table of a set's decoded pictures or frames; its columns are those of its `index.csv`."""
    # Somebody may be called "nan": nothing is a missing value.
    return pd.read_csv(
        folder / "index.csv", dtype={"image": str, "subject": str}, keep_default_na=False
    )


def photographs_of(index: pd.DataFrame) -> "pd.Series[str]":
    """Which photograph each image is a copy of.

    Args:
        index: of CMU faces, with the column `source`.
    """
    return index["source"].str.replace(r"(_[24])?\.pgm$", "", regex=True)


def finest_copies(index: pd.DataFrame) -> "pd.Series[str]":
    """For each image the name of the largest copy of its photograph.

    Args:
        index: columns `image` and, of CMU faces, `source` and `scale`; images of other sets are
            their own only copies.
    """
    if "scale" not in index:
        return index["image"]
    ordered = index.assign(photograph=photographs_of(index), scale=index["scale"].astype(int))
    finest = ordered.sort_values("scale").groupby("photograph")["image"].first()
    return ordered["photograph"].map(finest)
