"""Where the stages read and write, relative to the project's folder."""

from pathlib import Path

ANNOTATIONS = Path("data/annotations")
RAW = Path("data/raw")
CIFAR10 = RAW / "cifar10"
INTERIM = Path("data/interim")
# Folders there, and among the crops.
MORE_PEOPLE = ("youtube_faces", "facial_expressions")
PICTURES = ("cmu_faces", "recordings", *MORE_PEOPLE)
FACES = INTERIM / "faces.csv"
PROCESSED = Path("data/processed")
SPLIT = PROCESSED / "split.csv"
MODELS = Path("data/models")
CONTROLS = Path("data/controls")
HAPPYMAPS = Path("data/happymaps")
CAST = PROCESSED / "cast"
TURNED = PROCESSED / "turned"
PREDICTIONS = Path("data/predictions")
CROSS_VALIDATED = Path("data/cross_validated")
CHECKPOINTS = Path("data/checkpoints")
METRICS = Path("metrics")
PLOTS = Path("plots")


def heads_of(name: str) -> Path:
    """Where the heads are in the crops of a set."""
    return PROCESSED / name / "heads.csv"
