"""What the networks of each study learn from, and what they are watched and tested on."""

from collections.abc import Sequence

from happymaps.datasets import (
    LabelledImages,
    WithHeads,
    joined_with_heads,
    load_faces,
    load_objects,
    load_parts,
    load_test_sets,
    load_training,
    load_with_heads,
    parts_of,
    read_heads,
)
from happymaps.images.boxes import Box
from happymaps.params import Cifar10Params, NetworkParams, Params
from happymaps.stages.layout import (
    CIFAR10,
    PROCESSED,
    SPLIT,
    heads_of,
)

Study = Params | Cifar10Params


def parts(params: Study, spec: NetworkParams) -> dict[str, LabelledImages]:
    """`train` and `test`, and where a study has one `validation`, as a network sees them."""
    if isinstance(params, Cifar10Params):
        return parts_of(load_objects(CIFAR10), SPLIT, ("train", "validation", "test"))
    return load_parts(PROCESSED / "cmu_faces", SPLIT, spec.crop)


def watched_part(of: dict[str, LabelledImages]) -> str:
    """Name of the part that a training is watched on; the test part where there is no other."""
    return "validation" if "validation" in of else "test"


def learned_from(
    params: Study, spec: NetworkParams, of: dict[str, LabelledImages]
) -> tuple[LabelledImages, Sequence[Box | None] | None]:
    """What a network learns from, in all its views, and the heads in faces.

    Of objects it is the training part that `of` has; faces are read in all views that the network
    learns from, and more people where it asks for them.
    """
    if isinstance(params, Cifar10Params):
        return of["train"], None
    train = load_training(PROCESSED / "cmu_faces", SPLIT, spec.views)
    return joined_with_heads([train, *more_people(spec)])


def more_people(spec: NetworkParams) -> list[WithHeads]:
    """People of other cameras; nobody where a network does not want them.

    The YouTube faces are in all views of the network. Facial expressions are in its first one: they
    are cut to the face, so that all of a picture is hardly another view of it.
    """
    if not spec.more_people:
        return []
    return [
        *load_with_heads(PROCESSED / "youtube_faces", spec.views),
        *load_with_heads(PROCESSED / "facial_expressions", spec.views[:1]),
    ]


def heads_in(params: Study, spec: NetworkParams) -> dict[str, Box | None]:
    """Of the images that heads were looked for in: of the faces, in a network's view."""
    if isinstance(params, Cifar10Params):
        return {}
    return read_heads(heads_of("cmu_faces"), "cmu_faces", spec.crop)


def tests(params: Study, spec: NetworkParams) -> dict[str, LabelledImages]:
    """What a network is tested on: of faces the test part, and each recorded person."""
    if isinstance(params, Cifar10Params):
        return {"test": parts(params, spec)["test"]}
    return load_test_sets(PROCESSED, SPLIT, params.subjects, spec.crop)


def pooled_tests(
    params: Study, spec: NetworkParams, of: dict[str, LabelledImages]
) -> dict[str, LabelledImages]:
    """The same with all recorded people as one set; the test part is taken from `of`."""
    if isinstance(params, Cifar10Params):
        return {"test": of["test"]}
    recordings = load_faces(PROCESSED / "recordings", spec.crop)
    return {"cmu_test": of["test"], "recordings": recordings}
