"""Which images are copies of one photograph: the CMU faces come in three sizes."""

import pandas as pd


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
