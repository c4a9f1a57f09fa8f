"""Decide which of the published training images of CIFAR-10 are kept to watch the trainings."""

from sklearn.model_selection import train_test_split

from happymaps.errors import InputError, exit_on_error
from happymaps.files import write_csv, write_json
from happymaps.labelling import read_objects
from happymaps.params import OBJECTS, Cifar10Params
from happymaps.stages.layout import CIFAR10, METRICS, SPLIT


def main() -> None:
    """Write data/processed/split.csv, every class as often as the others, and the counts."""
    params = Cifar10Params.load()
    truth = read_objects(CIFAR10 / "truth.csv")
    published = truth[truth["part"] == "train"]
    rest = len(published) - params.split.validation
    if min(params.split.validation, rest) < len(OBJECTS):
        raise InputError(
            f"split.validation: {params.split.validation} of {len(published)} training images"
            f" leave {rest} to learn from; each side needs one of every class, {len(OBJECTS)}"
        )
    _, kept = train_test_split(
        published.index,
        test_size=params.split.validation,
        stratify=published["object"],
        random_state=params.seed,
    )
    parts = truth[["image", "part"]].copy()
    parts.loc[kept, "part"] = "validation"
    write_csv(SPLIT, parts)
    write_json(METRICS / "split.json", parts["part"].value_counts(sort=False).to_dict())


if __name__ == "__main__":
    exit_on_error(main)
