"""What people type: `happymaps predict` and `happymaps demo`."""

import argparse
import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from happymaps.errors import InputError, exit_on_error

_PREDICT_HELP = """\
Class and confidence for pictures, folders and videos, as CSV on standard output.

Type it in the project's folder. Every file goes through the pipeline's own preprocessing: a file
named by the grammar of the CMU Face Images is cropped as those were for the network's training,
everything else as `crop.recordings` in params.yaml says. `frame` (from 0) and `time` (seconds)
stay empty for pictures.
`confidence` is the output of the winning neuron: a probability, but for a network with a linear
head, whose output is cut off at 0 and 1. "left" is the left of the person in the picture."""

_DEMO_HELP = """\
Draw a cast of people who do not exist, and run the whole pipeline on them in a folder of its own:
sources, conversion, frames, crops, truth, split, seven networks trained and tested. What the
project has committed stays as it is. Type it in the project's folder."""


def main() -> None:
    """Entry point of the command `happymaps`."""
    arguments = _parser().parse_args()
    exit_on_error(lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="happymaps",
        description="Small face networks, trained reproducibly, tested on people they never met.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    plain = argparse.RawDescriptionHelpFormatter

    predict = commands.add_parser(
        "predict",
        help="say where the people in pictures and videos look",
        description=_PREDICT_HELP,
        formatter_class=plain,
    )
    predict.add_argument(
        "--network",
        required=True,
        metavar="NAME",
        help="a network of data/models, such as experiment0, or a .safetensors file",
    )
    predict.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    predict.set_defaults(run=_predict)

    demo = commands.add_parser(
        "demo",
        help="run the whole pipeline on a drawn cast",
        description=_DEMO_HELP,
        formatter_class=plain,
    )
    demo.add_argument(
        "folder", nargs="?", type=Path, default=Path("demo"), help="made anew (default: demo)"
    )
    demo.add_argument(
        "--people", type=int, default=6, help="size of the cast, 2 to 20 (default: 6)"
    )
    demo.set_defaults(run=_demo)
    return parser


def _predict(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from happymaps.networks import load_network
    from happymaps.params import Params
    from happymaps.prediction import Picture, media_files, predict, read_pictures

    saved = load_network(_network_file(arguments.network))
    crop_params = Params.load().crop
    failures: list[InputError] = []

    def pictures() -> Iterator[Picture]:
        for given in arguments.paths:
            try:
                files = media_files(given)
            except InputError as error:
                failures.append(error)
                continue
            for file in files:
                try:
                    yield from read_pictures(file)
                except InputError as error:
                    failures.append(error)

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "frame", "time", "prediction", "confidence"])
    try:
        # On a terminal only: a bar between the rows of a pipe's log helps nobody.
        answers = predict(saved, crop_params, pictures())
        for answer in tqdm(answers, unit="image", disable=None):
            time = "" if answer.time is None else f"{answer.time:g}"
            row = (answer.path, answer.frame, time, answer.prediction, f"{answer.confidence:.4f}")
            writer.writerow(row)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`head`, say) has seen enough; Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if failures:
        raise InputError("; ".join(str(failure) for failure in failures))


def _network_file(name: str) -> Path:
    if name.endswith(".safetensors"):
        return Path(name)
    models = Path("data/models")
    file = models / f"{name}.safetensors"
    if not file.is_file():
        there = ", ".join(sorted(model.stem for model in models.glob("*.safetensors")))
        raise InputError(
            f"no network {name!r} in {models}; "
            + (f"there are {there}" if there else "`dvc repro` trains them")
        )
    return file


def _demo(arguments: argparse.Namespace) -> None:
    from happymaps.demo import run_demo

    run_demo(Path.cwd(), arguments.folder, people=arguments.people)


if __name__ == "__main__":
    main()
