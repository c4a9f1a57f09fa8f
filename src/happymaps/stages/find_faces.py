"""Look for the face in every picture, for the crops and the heads."""

from joblib import Parallel, delayed
from tqdm import tqdm

from happymaps.errors import exit_on_error
from happymaps.files import write_json
from happymaps.images.decode import read_grey
from happymaps.images.faces import Looked, look, without_parts, write_looks
from happymaps.params import Params
from happymaps.photographs import finest_copies, read_index
from happymaps.stages.layout import FACES, INTERIM, METRICS, PICTURES


def main() -> None:
    """Write data/interim/faces.csv: boxes in pixels, empty where none is found.

    So they are where a CMU photograph has a part of a face only: all of a person are taken from
    the same distance.
    """
    threads = Params.load().threads
    looks = {name: _look_into(name, threads) for name in PICTURES}
    index = read_index(INTERIM / "cmu_faces")
    person = dict(zip(index["image"], index["subject"], strict=True))
    looks["cmu_faces"] = without_parts(looks["cmu_faces"], person)
    write_looks(FACES, looks)
    write_json(METRICS / "find_faces.json", {name: _counts(looks[name]) for name in PICTURES})


def _look_into(name: str, threads: int) -> dict[str, Looked]:
    """Each picture of a set that is its own finest copy."""
    copies = finest_copies(read_index(INTERIM / name)).unique()
    # Threads: decoding and the detector's networks release Python's lock.
    looks: list[Looked] = Parallel(n_jobs=threads, prefer="threads")(
        delayed(_look_at)(name, image)
        for image in tqdm(copies, unit="image", desc=f"finding faces: {name}")
    )
    return dict(zip(copies, looks, strict=True))


def _look_at(name: str, image: str) -> Looked:
    return look(read_grey(INTERIM / name / image))


def _counts(looks: dict[str, Looked]) -> dict[str, int]:
    return {"pictures": len(looks), "faces": sum(one.face is not None for one in looks.values())}


if __name__ == "__main__":
    exit_on_error(main)
