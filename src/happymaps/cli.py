"""What people type: `happymaps predict`, `happymaps explain` and `happymaps demo`."""

import argparse
import csv
import hashlib
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from happymaps.errors import InputError, exit_on_error
from happymaps.stages.layout import METRICS, MODELS

if TYPE_CHECKING:
    from happymaps.params import Cifar10Params, Params

_PREDICT_HELP = """\
Class and confidence for pictures, folders and videos, as CSV on standard output.

Type it in the project's folder, or for the networks of CIFAR-10 in studies/cifar10, which see
the centre square of a picture. Every file goes through the pipeline's own preprocessing: a file
named by the grammar of the CMU Face Images is cropped as those were for the network's training,
everything else as `crop.recordings` in params.yaml says. A network of `crop: face`, such as
generalist, sees the largest face; where none is found it sees the centre square, and a note on
standard error says so. `frame` (from 0) and `time` (seconds) stay empty for pictures.
`confidence` is the output of the winning neuron: a probability, but for a network with a linear
head, whose output is cut off at 0 and 1. "left" is the left of the person in the picture.
Of a folder, pictures and videos are known by their suffix, also those in folders below it, but not
behind links to folders, and what is hidden (.name) is passed over. Of videos and of animations
(GIF, PNG, WebP) every frame is answered, of another file with several pictures (TIFF, AVIF) the
first. A name that begins with a dash is written ./-name.
Files that cannot be read are named and the others answered; the exit code is 1 then. Of a video
that is damaged half-way, the frames before the damage may have been answered."""

_EXPLAIN_HELP = """\
Why a network answers as it does: a sheet with every picture's explanations, one method beside the
other, and the same as JSON.

Type it in the project's folder, or for the networks of CIFAR-10 in studies/cifar10. A PATH is a
picture, or a moment of a video as in talk.mp4@12.5s, but no folder (a name that begins with a dash
is written ./-name); each goes through the pipeline's own preprocessing, as with `happymaps
predict`. The answer that is explained is that to one look at it; a network with
`test_time_augmentation`, such as generalist, predicts by the mean of ten, which may differ. Red
speaks for the answer and blue against it; each map has its own scale. Methods are those of
`attributions` in params.yaml, and two controls that know nothing of the answer: `random`, and
`edges`, which any picture has. What failed the network's audit (metrics/audit) is marked with an X:
do not trust it. Of a network that was not audited, or trained again since, or with methods that are
set otherwise now (which dvc.lock knows), or of a file from elsewhere, nothing is marked.

OUTPUT.png has the sheet. OUTPUT.json has, per picture, `path`, `frame`, `time`, `prediction`,
`confidence`, and `methods`: what each failed (`failed`), where the image is most important to the
answer (`peak`: row and column in the image that the network saw, null where nothing speaks for it),
and an 8x8 `grid` of the map."""

_DEMO_HELP = """\
Draw a cast of people who do not exist, and run the whole pipeline on them in a folder of its own:
sources, frames, crops, truth, split; networks trained, tested, mapped, audited and explained. It is
a quick look: two of the networks, smaller images, fewer epochs, coarser maps. What the project has
committed stays as it is. Type it in the project's folder."""


def main() -> None:
    """Entry point of the command `happymaps`."""
    if sys.stderr is None:  # closed: bars and notes go nowhere then, and not among the answers
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    arguments = _parser().parse_args()
    # Of a file's damaged notes about itself, which are done without.
    warnings.filterwarnings("ignore", module="PIL")
    try:
        exit_on_error(lambda: arguments.run(arguments))
    except OSError as error:  # a full disk, say
        _drop_output()
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="happymaps",
        description="Small networks, trained reproducibly, and shown for what they have learned.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    plain = argparse.RawDescriptionHelpFormatter

    predict = commands.add_parser(
        "predict",
        help="name the pose of people, or the object, in pictures and videos",
        description=_PREDICT_HELP,
        formatter_class=plain,
    )
    _add_network(predict)
    predict.add_argument("paths", nargs="+", type=_path, metavar="PATH")
    predict.set_defaults(run=_predict)

    explain = commands.add_parser(
        "explain",
        help="show why a network answers as it does",
        description=_EXPLAIN_HELP,
        formatter_class=plain,
    )
    _add_network(explain)
    explain.add_argument(
        "--output",
        type=_output,
        default=Path("explanation"),
        metavar="OUTPUT",
        help="where to write: a folder, or a name without an ending (default: explanation)",
    )
    explain.add_argument("paths", nargs="+", type=_named, metavar="PATH")
    explain.set_defaults(run=_explain)

    demo = commands.add_parser(
        "demo",
        help="run the whole pipeline on a drawn cast",
        description=_DEMO_HELP,
        formatter_class=plain,
    )
    demo.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("demo"),
        help="an earlier demo in it is replaced (default: demo)",
    )
    demo.add_argument(
        "--people", type=int, default=5, help="size of the cast, 2 to 20 (default: 5)"
    )
    demo.set_defaults(run=_demo)
    return parser


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--network",
        required=True,
        metavar="NAME",
        help="a network of data/models, such as experiment0, or a .safetensors file",
    )


def _named(text: str) -> str:
    # An unset variable of a script's; as a path it would be all that is below this folder.
    if not text:
        raise argparse.ArgumentTypeError("an empty name")
    return text


def _path(text: str) -> Path:
    return Path(_named(text))


def _output(text: str) -> Path:
    path = _path(text)
    is_there = os.path.isdir(path)  # noqa: PTH112, for `Path.is_dir` raises where one may not look
    if is_there or text.endswith("/"):
        return path / "explanation"
    return path.with_suffix("") if path.suffix in (".png", ".json") else path


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Print as far as the reader (`head`, say) wants to see."""
    try:
        yield
    except BrokenPipeError:
        _drop_output()


def _drop_output() -> None:
    """Python would complain once more at its end of what cannot be written."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_any_name() -> None:
    """A file's name may be no text in the terminal's encoding: it comes out as on the disk."""
    of_disk = sys.getfilesystemencoding()
    sys.stdout.reconfigure(encoding=of_disk, errors="surrogateescape")  # type: ignore[union-attr]


@contextmanager
def _ended_by_interrupt() -> Iterator[None]:
    """Imports, on Ctrl-C: NumPy's swallow a KeyboardInterrupt, and the program would go on."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # ignored, as in the background of a script
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _predict(arguments: argparse.Namespace) -> None:
    with _ended_by_interrupt():
        from tqdm import tqdm

        from happymaps.devices import configure_torch
        from happymaps.networks import load_network
        from happymaps.prediction import Picture, media_files, predict, read_pictures, sees_colour

    params = _study()
    saved = load_network(_network_file(arguments.network, params))
    configure_torch(params.threads)
    failures: list[InputError] = []
    faceless: list[str] = []

    def pictures() -> Iterator[Picture]:
        for given in arguments.paths:
            try:
                files = media_files(given, failures.append)
            except InputError as error:
                failures.append(error)
                continue
            for file in files:
                try:
                    yield from read_pictures(file, colour=sees_colour(saved))
                except InputError as error:
                    failures.append(error)

    if sys.stdout is None:
        raise InputError("standard output is closed: there is nowhere to write the answers to")
    _print_any_name()
    # A bar between the rows on the same terminal, or in a log, helps nobody.
    no_bar = True if sys.stdout.isatty() else None
    writer = csv.writer(sys.stdout, lineterminator="\n")
    with _reader_may_leave():
        writer.writerow(["path", "frame", "time", "prediction", "confidence"])
        answers = predict(saved, params.crop, pictures())
        for answer in tqdm(answers, unit="image", disable=no_bar):
            # Whole: given to `happymaps explain`, a time that was rounded down is another frame's.
            time = "" if answer.time is None else f"{answer.time}"
            row = (answer.path, answer.frame, time, answer.prediction, f"{answer.confidence:.4f}")
            writer.writerow(row)
            if answer.without_face:
                faceless.append(f"{answer.path}@{time}s" if time else str(answer.path))
        sys.stdout.flush()
    _tell_of(faceless)
    _raise_all(failures)


def _require_place(output: Path, inputs: Sequence[str]) -> None:
    """Say before the work, and not after it, that its results cannot be written."""
    from happymaps.prediction import moment_of

    pictures = [moment_of(given)[0] for given in inputs]
    for target in (Path(f"{output}.png"), Path(f"{output}.json")):
        is_there = os.path.isdir(target)  # noqa: PTH112, for `Path.is_dir` raises at closed doors
        if is_there or any(_is_same(target, picture) for picture in pictures):
            what = "a folder" if is_there else "one of the pictures"
            raise InputError(f"{target}: is {what}; choose another --output")
    with _writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        # As long as the longest name that is written.
        tempfile.NamedTemporaryFile(
            dir=output.parent, prefix=f".{output.name}.json.", suffix=".draft"
        ).close()


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Name the output that cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror})") from error


def _is_same(one: Path, other: Path) -> bool:
    """Also under another spelling: not every disk tells IMG.PNG from img.png."""
    try:
        return one.samefile(other)
    except OSError:  # one is not there, or cannot be looked at
        return False


def _explain(arguments: argparse.Namespace) -> None:
    with _ended_by_interrupt():
        import torch
        from tqdm import tqdm

        from happymaps.devices import configure_torch
        from happymaps.explanation import describe, draw_explanations, explain, read_failures
        from happymaps.files import write_json
        from happymaps.networks import load_network
        from happymaps.prediction import preprocess, read_moment, sees_colour
        from happymaps.understanding.attributions import with_controls

    params = _study()
    file = _network_file(arguments.network, params)
    saved = load_network(file)
    configure_torch(params.threads)
    audit = METRICS / "audit" / f"{saved.name}.json"
    methods = with_controls(params.attributions.methods)
    failed = read_failures(audit, methods) if _is_audited(saved.name, file, params) else None
    _require_place(arguments.output, arguments.paths)
    rows, figures = [], []
    failures: list[InputError] = []
    faceless: list[str] = []
    for given in tqdm(arguments.paths, unit="picture", disable=None):
        try:
            picture = read_moment(given, colour=sees_colour(saved))
        except InputError as error:
            failures.append(error)
            continue
        seen = preprocess(picture, saved, params.crop)
        if seen.without_face:
            faceless.append(given)
        images = torch.from_numpy(seen.pixels[None].copy())
        (explanation,) = explain(saved.network, images, params.attributions, params.seed)
        rows.append((given, explanation))
        about = {"path": str(picture.path), "frame": picture.frame, "time": picture.time}
        figures.append(about | describe(explanation, failed))
    if rows:
        with _writing(arguments.output):
            write_json(Path(f"{arguments.output}.json"), figures)
            draw_explanations(Path(f"{arguments.output}.png"), f"{saved.name}: why", rows, failed)
        if sys.stdout is not None:
            _print_any_name()
        with _reader_may_leave():
            print(f"{arguments.output}.png\n{arguments.output}.json", flush=True)
    _tell_of(faceless)
    _raise_all(failures)


def _is_audited(name: str, file: Path, params: "Params | Cifar10Params") -> bool:
    """Whether an audit of `name` would be of this file and these params; a note if not any more."""
    known = MODELS / f"{name}.safetensors"
    # A file from elsewhere may carry the name of a network that it is not.
    if not _is_same(file, known):
        return False
    audit = _audit_of(name)
    audited = {dep["path"]: dep.get("md5") for dep in audit.get("deps", [])}.get(known.as_posix())
    if audited not in (None, hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()):
        why = f"{name} has been trained again since its audit"
    elif changed := _changed_settings(audit.get("params", {}).get("params.yaml", {}), params):
        why = f"{', '.join(changed)} in params.yaml changed since the audit of {name}"
    else:
        return True
    print(
        f"note: {why}, so no method is marked; `dvc repro audit@{name}` audits it", file=sys.stderr
    )
    return False


def _audit_of(name: str) -> dict[str, Any]:
    """What dvc.lock says of the network's audit; nothing where it was never locked."""
    import yaml

    lock = Path("dvc.lock")
    if not lock.is_file():
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        stages = (yaml.load(lock.read_text(encoding="utf-8"), loader) or {}).get("stages", {})
    except yaml.YAMLError as error:
        raise InputError(f"{lock}: no YAML ({error}); which networks were audited?") from error
    audit: dict[str, Any] = stages.get(f"audit@{name}", {})
    return audit


def _changed_settings(audited: dict[str, Any], params: "Params | Cifar10Params") -> list[str]:
    """The settings of methods that are other ones now than when they were audited."""
    return [
        key
        for key, value in audited.items()
        if key.startswith("attributions.")
        and key != "attributions.methods"
        and value != _setting(params, key)
    ]


def _setting(params: Any, key: str) -> Any:
    """What stands under a key such as `attributions.lime.samples`; None where nothing does."""
    return reduce(lambda one, name: getattr(one, name, None), key.split("."), params)


def _tell_of(faceless: list[str]) -> None:
    """A note beside the answers: they are about something else than a face, perhaps."""
    if faceless:
        print(
            f"note: no face was found in {len(faceless)} of the images (first: {faceless[0]});"
            " their answers are about the centre square",
            file=sys.stderr,
        )


def _raise_all(failures: list[InputError]) -> None:
    """Say at the end what could not be read, a line each: the rest is not lost to it."""
    if failures:
        raise InputError("\nerror: ".join(str(failure) for failure in failures))


def _study() -> "Params | Cifar10Params":
    from happymaps.params import load_study

    if not Path("params.yaml").is_file():
        raise InputError("no params.yaml here; type this in the project's folder")
    return load_study()


def _network_file(name: str, params: "Params | Cifar10Params") -> Path:
    if name.endswith(".safetensors"):
        return Path(name)
    file = MODELS / f"{name}.safetensors"
    if not file.is_file() or file.parent != MODELS:
        there = ", ".join(sorted(model.stem for model in MODELS.glob("*.safetensors")))
        trained = f"; there are {there}" if there else ""
        known = f"; `dvc repro train@{name}` trains it" if name in params.networks else ""
        raise InputError(f"no network {name!r} in {MODELS}{trained}{known}")
    if name not in params.networks:
        print(f"note: params.yaml has no network {name} any more; {file} is left", file=sys.stderr)
    return file


def _demo(arguments: argparse.Namespace) -> None:
    from happymaps.demo import run_demo

    run_demo(Path.cwd(), arguments.folder, people=arguments.people)


if __name__ == "__main__":
    main()
