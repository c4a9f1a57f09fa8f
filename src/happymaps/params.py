"""params.yaml, typed and checked."""

from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from happymaps.errors import InputError

Pose = Literal["straight", "left", "right", "up"]
POSES: tuple[Pose, ...] = ("straight", "left", "right", "up")
MIRRORED_POSES = (0, 2, 1, 3)  # what each number becomes in the mirror
# Of CIFAR-10, in its own order.
OBJECTS = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
OBJECT_SIZE = 32  # pixels, each way

Positive = Annotated[int, Field(gt=0)]
Block = Annotated[list[Positive], Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
CropMethod = Literal["stretch", "square", "face"]
View = Literal["plain", "face"]
Precision = Literal["float32", "mixed"]
SplitMethod = Literal["random", "by_photograph", "by_person"]
VIEWS: tuple[View, ...] = ("plain", "face")

_NO_OBJECTS = "objects are of studies/cifar10, here are faces"

# By sets, by files beside those of a person or a network, and by figures in the same table.
_TAKEN_NAMES = {
    "cmu_faces",
    "cmu_test",
    "frames",
    "recordings",
    "youtube_faces",
    "facial_expressions",
    "filters",
    "similarity",
    "untrained",
    "shuffled",
    "above_control",
    "error",  # under which DVC looks for why a file of metrics could not be read
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FacesParams(_Section):
    """Where a set of published faces comes from, and the hashes that they must have."""

    path: Path | None
    url: str
    manifest: Path


class LandmarksParams(_Section):
    """How landmarks tell the pose of a head.

    `straight` and `turned` are how far the tip of the nose is aside from the middle of the face, in
    halves of its width (`labelling.turn_and_lift`): heads up to the one are straight, from the
    other on turned. `level` is how low it is between eyes and mouth, from 0 to 1: heads that are
    raised or lowered by more get no pose, nor do those between straight and turned.
    """

    straight: Share
    turned: Share
    level: tuple[Share, Share]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.straight > self.turned:
            raise ValueError("straight: may not be more than turned")
        if self.level[0] >= self.level[1]:
            raise ValueError("level: the smaller comes first")
        return self


class Cifar10SourceParams(_Section):
    """Where CIFAR-10 comes from: a folder or archive of the user's own (`path`), or a `url`."""

    path: Path | None
    url: str


class RecordingParams(_Section):
    """One recorded person: a file of the user's own (`path`), or a `url` with its hash."""

    subject: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    path: Path | None = None
    url: str | None = None
    sha256: Sha256 | None = None
    terms: str | None = None

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.path is None and self.url is None:
            raise ValueError("needs a path or a url")
        if self.path is None and self.sha256 is None:
            raise ValueError("a url needs its sha256")
        return self


class ExtractParams(_Section):
    """Frames per second to take from a recording; null takes every frame."""

    rate: Annotated[float, Field(gt=0)] | None


class _SizeParams(_Section):
    """What images of every kind are made with."""

    size: Annotated[int, Field(ge=16)]
    resample: Literal["lanczos", "area"]


class ColourCropParams(_SizeParams):
    """How pictures of any size become square coloured ones of `size` pixels: by their centre."""

    @property
    def channels(self) -> int:
        """Of the images that a network sees."""
        return 3

    def of_training(self) -> Self:
        """The part that a network's file remembers: all of it."""
        return self


class TrainingCropParams(_SizeParams):
    """How the images were made that a network is trained on; its file remembers them."""

    cmu_faces: CropMethod
    face_margin: Annotated[float, Field(ge=0)]

    @property
    def channels(self) -> int:
        """Of the images that a network sees: grey has one."""
        return 1


class CropParams(TrainingCropParams):
    """How pictures of any size become square grey ones of `size` pixels."""

    recordings: CropMethod
    youtube_faces: CropMethod
    facial_expressions: CropMethod

    @property
    def methods(self) -> dict[str, CropMethod]:
        """How the pictures of each set are cropped, by its name."""
        return {
            "cmu_faces": self.cmu_faces,
            "recordings": self.recordings,
            "youtube_faces": self.youtube_faces,
            "facial_expressions": self.facial_expressions,
        }

    def of_training(self) -> TrainingCropParams:
        """The part that a network's file remembers."""
        return TrainingCropParams(**self.model_dump(include=set(TrainingCropParams.model_fields)))


class SplitParams(_Section):
    """Which images train a network and which test it."""

    method: SplitMethod
    test_share: Share
    people: list[str]
    folds: Annotated[int, Field(ge=2)]
    fold: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _fold_exists(self) -> Self:
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds}: folds count from 0")
        return self


class ValidationParams(_Section):
    """How many of the published training images are kept to watch a training."""

    validation: Positive


class TrainParams(_Section):
    """What is the same in every network's training.

    With `precision` `mixed` the layers compute in bfloat16 (Micikevicius et al. 2017, "Mixed
    precision training") where the device multiplies matrices of it, in float32 elsewhere.
    """

    batch_size: Positive
    precision: Precision


class AugmentParams(_Section):
    """How training images are changed each time that they are seen; zeros change nothing.

    `mirror` flips half of them, and then left is right. `turn` and `nod` are the largest angles in
    degrees by which straight heads are turned aside and raised; `background` is the share of images
    that get another background. These three need to know where the heads are.

    `shift` is the largest way that an image is moved (by whole pixels, if it is not scaled or
    rotated as well), `scale` by what part of its size it grows or shrinks at most (and one side up
    to a tenth more), `blur` the largest standard deviation (half of the images stay sharp), all in
    fractions of the image; `rotation` is in degrees. `brightness` is the most that is added
    (images: 0 to 1), and `noise` the largest standard deviation. `contrast` and `gamma` are the
    largest natural logarithms of the factor and of the exponent. Half of the images are lit from a
    side: `light` is by what part that is brighter than the middle, and the other darker, at most;
    by twice that, up to 0.9, where the light ends in a shadow, as half of the times. `hide` is the
    largest share of an image that is hidden behind something else; half of them stay whole (random
    erasing: Zhong et al. 2020).
    """

    mirror: bool
    turn: Annotated[float, Field(ge=0, lt=90)]
    nod: Annotated[float, Field(ge=0, lt=90)]
    background: Annotated[float, Field(ge=0, le=1)]
    shift: Annotated[float, Field(ge=0, le=0.5)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    rotation: Annotated[float, Field(ge=0, le=180)]
    brightness: Annotated[float, Field(ge=0, le=1)]
    contrast: Annotated[float, Field(ge=0)]
    gamma: Annotated[float, Field(ge=0)]
    light: Annotated[float, Field(ge=0, le=1)]
    blur: Annotated[float, Field(ge=0, le=0.1)]
    noise: Annotated[float, Field(ge=0, le=1)]
    hide: Annotated[float, Field(ge=0, le=1)] = 0  # as of networks that were saved before it was


class NetworkParams(_Section):
    """One network: what it is built of, what it is asked, and how it learns.

    `filters` has an entry per block of convolutions: a number for a block of one, or a list. A 2x2
    max-pool stands between two blocks and, with `last_pool`, behind the last. `dense` has one per
    dense layer before the decision layer. The first convolution looks at every `stride`-th place;
    `padding` puts zeros around what each is given, so that it loses no edge. `dropout` is before
    the decision layer, `pool_dropout` behind every max-pool. `normalize`
    brings every image, or every place of it with what is around it, to mean 0 and variance 1 before
    the first layer. `batch_norm` does so for every layer's outputs over each batch while it learns
    (Ioffe and Szegedy 2015); what that comes to is left in the weights at the end. `pooled` does it
    behind the max-pools where there are some, on a quarter of the numbers, and without a scale;
    the biases of these norms learn faster. With `crop` `plain` it sees images cropped as `crop` in
    params.yaml says for their set, with `face` the faces in them.

    While it learns, `label_smoothing` of every label is spread evenly over all classes (Szegedy et
    al. 2016, "Rethinking the Inception architecture for computer vision").
    `optimizer` `sgd` is stochastic gradient descent with `momentum`, `nesterov` looks ahead with it
    (Sutskever et al. 2013), `adam` takes the mean square
    of the gradients into account as well (Kingma and Ba 2014; `momentum` is its first beta).
    `schedule` keeps the learning rate, or has it rise to `learning_rate` and fall again
    (Smith 2018, the 1cycle policy). `balanced` draws every class equally often (before `augment`
    turns some of the straight heads). With `more_people`
    it learns from the YouTube faces and facial expressions too. Its weights begin as drawn by
    chance (`initialization` `glorot`); or its first convolution sees the principal components of
    small patches, which it does not unlearn, and the other ones begin by passing on what they are
    given (`whitening`; Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU").
    `batch_size` is one of its own instead of `train.batch_size`. With `test_time_augmentation` it
    answers by the mean of ten looks at an image, see `answering`.
    """

    filters: Annotated[list[Positive | Block], Field(min_length=1)]
    kernel: Positive
    stride: Positive
    padding: bool
    last_pool: bool
    pool_dropout: Annotated[float, Field(ge=0, lt=1)]
    dense: list[Positive]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    head: Literal["softmax", "linear"]
    loss: Literal["cross_entropy", "mean_squared_error"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    target: Literal["left", "pose", "object"]
    normalize: Literal["none", "image", "local"]
    batch_norm: bool | Literal["pooled"]
    crop: View
    epochs: Positive
    optimizer: Literal["sgd", "nesterov", "adam"]
    learning_rate: Annotated[float, Field(gt=0)]
    schedule: Literal["constant", "one_cycle"]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    balanced: bool
    augment: AugmentParams
    # As of networks that were saved before there was a choice.
    more_people: bool = False
    initialization: Literal["glorot", "whitening"] = "glorot"
    batch_size: Positive | None = None
    test_time_augmentation: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.loss == "cross_entropy" and self.head != "softmax":
            raise ValueError("cross_entropy needs the softmax head")
        if self.loss != "cross_entropy" and self.label_smoothing:
            raise ValueError("label_smoothing needs cross_entropy")
        if self.target == "object" and (self.more_people or self.crop == "face"):
            raise ValueError("more_people and the face crop need a target in faces")
        heads = (self.augment.turn, self.augment.nod, self.augment.background)
        if self.target == "object" and any(heads):
            raise ValueError("turn, nod and background need a target in faces: they change heads")
        if self.test_time_augmentation and self.target == "left":
            raise ValueError(
                "test_time_augmentation needs the target pose or object: what is not left tells"
                " nothing of its mirror image"
            )
        if self.pool_dropout and len(self.filters) == 1 and not self.last_pool:
            raise ValueError("pool_dropout needs a max-pool: more filters, or last_pool")
        if self.optimizer == "nesterov" and not self.momentum:
            raise ValueError("nesterov needs momentum")
        return self

    @property
    def views(self) -> tuple[View, ...]:
        """What it learns from. A face that is not found is shown whole: it has to know both."""
        return ("face", "plain") if self.crop == "face" else ("plain",)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the decision layer's neurons, in their order."""
        return {"left": ("not left", "left"), "pose": POSES, "object": OBJECTS}[self.target]

    @property
    def blocks(self) -> list[list[int]]:
        """The filters of every convolution, block by block."""
        return [[block] if isinstance(block, int) else block for block in self.filters]


class TestParams(_Section):
    """How many random examples of each error are drawn."""

    __test__ = False

    examples: Positive


class HappymapsParams(_Section):
    """How the image is found that makes a neuron happiest, and when two are the same.

    `filters` says which of a filter's outputs count, `decision` whether the decision layer's are
    taken after its head. `jitter`, `scale` and `rotation` are the largest random transformation
    of a step, in fractions of the image; `rotation` is how far an edge moves, as a fraction of its
    distance from the centre. `total_variation` and `norm` weigh the penalties against an ascent of
    1 per pixel. `memory` is what a chunk of maps may take, in MiB. `precision` is as of trainings.
    """

    parametrization: Literal["fourier", "pixel"]
    filters: Literal["mean", "centre"]
    decision: Literal["head", "logit"]
    steps: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    total_variation: Annotated[float, Field(ge=0)]
    norm: Annotated[float, Field(ge=0)]
    norm_p: Annotated[float, Field(ge=1)]
    jitter: Annotated[float, Field(ge=0, lt=0.5)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    rotation: Annotated[float, Field(ge=0, lt=1)]
    seeds: Annotated[int, Field(ge=2)]
    examples: Positive
    twins: Share
    memory: Positive
    precision: Precision


Method = Literal[
    "saliency",
    "guided_backpropagation",
    "smoothgrad",
    "integrated_gradients",
    "grad_cam",
    "occlusion",
    "pixel_importance",
    "lime",
]


class SmoothGradParams(_Section):
    """How many noisy copies are averaged, and the noise's standard deviation (images: 0 to 1)."""

    samples: Positive
    noise: Annotated[float, Field(gt=0)]


class IntegratedGradientsParams(_Section):
    """On how many points between the blurred image and the image the gradient is taken."""

    steps: Positive


class PatchParams(_Section):
    """Side of the square that hides part of an image, and how far it moves; in pixels."""

    patch: Positive
    stride: Positive


class LimeParams(_Section):
    """About how many superpixels an image has, and on how many of their subsets LIME learns."""

    superpixels: Annotated[int, Field(ge=2)]
    samples: Annotated[int, Field(ge=2)]


class AttributionsParams(_Section):
    """How single decisions are explained.

    `blur` is the standard deviation of the blur that takes information out of an image, as a
    fraction of its side.
    """

    methods: Annotated[list[Method], Field(min_length=1)]
    blur: Annotated[float, Field(gt=0)]
    smoothgrad: SmoothGradParams
    integrated_gradients: IntegratedGradientsParams
    occlusion: PatchParams
    pixel_importance: PatchParams
    lime: LimeParams


class ExplainParams(_Section):
    """How many images of each kind of answer are drawn, and of the most confident errors."""

    examples: Positive


class AuditParams(_Section):
    """How explanations are tested.

    `images` of the test part are explained; the pixels are taken away and given back in `steps`, in
    squares of `cell` pixels. Of `randomised` of them the explanations are drawn again by as many
    networks with random weights as `random_networks` says; fewer than twelve would not show how
    much these differ. Of fewer than twelve images no method passes, for the same reason.
    """

    images: Annotated[int, Field(ge=2)]
    randomised: Positive
    random_networks: Annotated[int, Field(ge=12)]
    steps: Positive
    cell: Positive


class FaceAuditParams(AuditParams):
    """How explanations and decisions about faces are tested.

    Of each recorded person the heads in at most `heads` labelled frames are described. Of the drawn
    cast of `people` half as many images are explained. Faces are moved by up to `reach` (a fraction
    of the image) to `offsets` places each way, at each of `scales`. `turn` is the angle in degrees
    of a clear turn of the recorded people.
    """

    heads: Positive
    reach: Annotated[float, Field(gt=0, lt=1)]
    offsets: Annotated[int, Field(ge=3)]
    scales: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    people: Annotated[int, Field(ge=2, le=20)]
    turn: Annotated[float, Field(gt=0, lt=90)]


class CrossValidateParams(_Section):
    """How `networks` are tested on everybody: each time on people that training has not seen.

    `folds` of about as many people each; `leave_one_out` tests on one person at a time instead.
    The trainings are spread over `jobs` by joblib's `backend`: `loky` on this machine; `dask` and
    `ray` reach a cluster at `address`, or start one on this machine where it is null.
    """

    networks: list[str]
    folds: Annotated[int, Field(ge=2)]
    leave_one_out: bool
    backend: Literal["loky", "dask", "ray"]
    jobs: Positive
    address: str | None


class StepParams(_Section):
    """A step from `experiment0` towards the generalist: what it changes of the one before it.

    `changes` are named as below a network, `augment.turn` for one.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
    changes: Annotated[dict[str, Any], Field(min_length=1)]


class LeaksParams(_Section):
    """How many seeds a network is trained from under each split."""

    runs: Annotated[int, Field(ge=2)]


class StudyParams(_Section):
    """What the params.yaml of every study has."""

    seed: Annotated[int, Field(ge=0, lt=1 << 31)]
    threads: Positive
    train: TrainParams
    networks: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")], NetworkParams]
    test: TestParams
    happymaps: HappymapsParams
    attributions: AttributionsParams
    explain: ExplainParams

    @classmethod
    def load(cls, path: Path = Path("params.yaml")) -> Self:
        """Read and check `path`.

        Raises:
            InputError: naming the file and every key that is missing, unknown or out of range.
        """
        try:
            return cls.model_validate(_content(path))
        except ValidationError as error:
            raise InputError(f"{path}: {_reasons(error)}") from error

    def network(self, name: str) -> NetworkParams:
        """The params of one network.

        Raises:
            InputError: listing the networks there are.
        """
        if name not in self.networks:
            raise InputError(f"no network {name!r} in params; there are {', '.join(self.networks)}")
        return self.networks[name]


class Params(StudyParams):
    """All of params.yaml of the main pipeline: faces and recorded people."""

    faces: FacesParams
    youtube_faces: FacesParams
    facial_expressions: FacesParams
    recordings: list[RecordingParams]
    extract: ExtractParams
    landmarks: LandmarksParams
    points: LandmarksParams
    crop: CropParams
    split: SplitParams
    audit: FaceAuditParams
    cross_validate: CrossValidateParams
    leaks: LeaksParams
    steps: list[StepParams]

    @model_validator(mode="after")
    def _subjects_have_names_of_their_own(self) -> Self:
        if len(set(self.subjects)) < len(self.subjects):
            raise ValueError("recordings: every subject may be named once only")
        taken = _TAKEN_NAMES & set(self.subjects)
        if taken:
            raise ValueError(f"recordings: {min(taken)} is a name of the metrics' own")
        return self

    @model_validator(mode="after")
    def _networks_know_faces(self) -> Self:
        for name, spec in self.networks.items():
            if name == "error":
                raise ValueError("networks: error is a name of the metrics' own")
            if spec.target == "object":
                raise ValueError(f"networks.{name}: {_NO_OBJECTS}")
        return self

    @model_validator(mode="after")
    def _steps_have_names_of_their_own(self) -> Self:
        names = [*self.networks, *(step.name for step in self.steps)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"steps: {name} is already a name of a network or a step")
        return self

    @property
    def subjects(self) -> list[str]:
        """The recorded people, in their order."""
        return [recording.subject for recording in self.recordings]

    def step_by_step(self) -> dict[str, NetworkParams]:
        """`experiment0`, and what has become of it after each step.

        Raises:
            InputError: naming the step whose change is unknown or out of range.
        """
        spec = self.network("experiment0")
        found = {"experiment0": spec}
        for step in self.steps:
            try:
                spec = _changed(spec, step.changes)
            except (KeyError, TypeError) as error:
                raise InputError(f"steps.{step.name}: no such param {error}") from error
            except ValidationError as error:
                raise InputError(f"steps.{step.name}: {_reasons(error)}") from error
            if spec.target == "object":
                raise InputError(f"steps.{step.name}: {_NO_OBJECTS}")
            found[step.name] = spec
        return found


class Cifar10Params(StudyParams):
    """All of params.yaml of the CIFAR-10 study."""

    cifar10: Cifar10SourceParams
    crop: ColourCropParams
    split: ValidationParams
    audit: AuditParams

    @model_validator(mode="after")
    def _crop_fits_the_images(self) -> Self:
        if self.crop.size != OBJECT_SIZE:
            raise ValueError(
                f"crop.size: should be {OBJECT_SIZE}, the size of CIFAR-10's own images"
            )
        return self

    @model_validator(mode="after")
    def _networks_know_objects(self) -> Self:
        for name, spec in self.networks.items():
            if spec.target != "object":
                raise ValueError(f"networks.{name}: the target should be object, here are no faces")
        return self


def load_study(path: Path = Path("params.yaml")) -> Params | Cifar10Params:
    """Read and check the params of whichever study `path` belongs to; raises as `Params.load`."""
    return Cifar10Params.load(path) if "cifar10" in _content(path) else Params.load(path)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError) as error:  # a date of month 13, bytes that are no UTF-8
        raise InputError(f"{path}: not YAML ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: top level: should be a mapping")
    return content


def _changed(spec: NetworkParams, changes: dict[str, Any]) -> NetworkParams:
    content = spec.model_dump()
    for name, value in changes.items():
        *sections, key = name.split(".")
        part = reduce(getitem, sections, content)
        if not isinstance(part, dict) or key not in part:
            raise KeyError(name)
        part[key] = value
    return NetworkParams.model_validate(content)


def _reasons(error: ValidationError) -> str:
    found = [
        f"{'.'.join(str(part) for part in problem['loc']) or 'top level'}: {problem['msg']}"
        for problem in error.errors()
    ]
    return "; ".join(found)
