import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from happymaps.datasets import BATCH
from happymaps.errors import InputError
from happymaps.images.video import ffmpeg_binary
from happymaps.networks import SavedNetwork, build_network
from happymaps.params import OBJECTS, ColourCropParams, NetworkParams, Params
from happymaps.prediction import (
    Picture,
    media_files,
    predict,
    preprocess,
    read_moment,
    read_pictures,
    sees_colour,
)
from happymaps.sources.drawing import Person, Scene, render
from toys import crop


def video(path: Path, *options: str) -> Path:
    """Ten even frames without loss, ten a second; the n-th one's brightness is 20 n."""
    frames = np.repeat(np.arange(0, 200, 20, dtype=np.uint8), 8 * 6 * 3)
    command = [ffmpeg_binary(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "8x6"]
    command += ["-r", "10", "-i", "pipe:", "-c:v", "png", "-pix_fmt", "rgb24", *options]
    subprocess.run([*command, f"file:{path}"], input=frames.tobytes(), check=True, timeout=30)
    return path


def picture(path: Path, brightness: int = 90) -> Path:
    Image.new("L", (8, 6), brightness).save(path, format="PNG")
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video(tmp_path_factory.mktemp("clip") / "clip.mov")


def test_a_picture_is_read_as_it_is(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    found = read_moment(str(path))
    assert found[:3] == (path, None, None)
    assert np.array_equal(found.pixels, np.full((6, 8), 90))


@pytest.mark.parametrize(
    ("moment", "frame"),
    [("0", 0), ("0.09", 0), ("0.2", 2), ("0.29", 2), ("0.3", 3), ("0.95", 9), ("1", 9)],
)  # fmt: skip
def test_a_moment_shows_the_last_frame_that_began_by_then(
    clip: Path, moment: str, frame: int
) -> None:
    found = read_moment(f"{clip}@{moment}s")
    assert found[:3] == (clip, frame, frame / 10)
    assert np.array_equal(found.pixels, np.full((6, 8), 20 * frame))


@pytest.mark.parametrize(("moment", "frame"), [("0.03", 1), ("0.3", 5), ("0.63", 7), ("0.64", 8)])
def test_a_frame_is_found_by_its_time_and_not_by_a_rate(
    tmp_path: Path, moment: str, frame: int
) -> None:
    stretch = ("-vf", "settb=1/1000,setpts=N*N*10", "-enc_time_base", "1:1000")
    path = video(tmp_path / "variable.mkv", *stretch, "-fps_mode", "vfr")
    found = read_moment(f"{path}@{moment}s")
    assert found.frame == frame
    assert found.time == pytest.approx(frame**2 / 100)


def test_every_frame_is_found_by_its_own_time(tmp_path: Path) -> None:
    """At 30 frames a second times have no end: one that is rounded down is another frame's."""
    path = video(tmp_path / "clip.mov", "-vf", "setpts=N/30/TB", "-r", "30")
    times = [frame.time for frame in read_pictures(path)]
    found = [read_moment(f"{path}@{time}s").frame for time in times]
    assert found == list(range(len(times)))
    assert len(times) >= 10


def test_a_moment_of_a_video_with_a_line_break_in_its_name(tmp_path: Path) -> None:
    path = video(tmp_path / "a\nb.mov")
    assert read_moment(f"{path}@0.3s").frame == 3


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_has_moments_too(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("L", (8, 6), brightness) for brightness in (0, 100, 200)]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200)
    assert read_moment(f"{path}@0.5s").frame == 2


def test_a_last_frame_is_seen_as_long_as_it_is_held(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 6), brightness) for brightness in (0, 200)]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[200, 3000])
    assert read_moment(f"{path}@3.1s").frame == 1
    with pytest.raises(InputError, match=r"has no moment 3\.3 s; its last frame begins at 0\.2 s"):
        read_moment(f"{path}@3.3s")


def test_a_film_shows_its_first_frame_before_that_begins(tmp_path: Path) -> None:
    """Where the sound begins earlier."""
    path = tmp_path / "late.mkv"
    sound = ["-f", "lavfi", "-i", "sine=duration=2"]
    sight = ["-itsoffset", "0.5", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=1"]
    command = [ffmpeg_binary(), "-v", "error", *sound, *sight, "-c:v", "png", str(path)]
    subprocess.run(command, check=True, timeout=30)
    for moment, frame in (("0.1", 0), ("0.5", 0), ("0.65", 1)):
        found = read_moment(f"{path}@{moment}s")
        assert found.frame == frame
        assert found.time == pytest.approx(0.5 + frame / 10)


@pytest.mark.parametrize(("time", "frame"), [("3.3e-05", 0), ("0.1", 1), ("1", 9)])
def test_a_moment_as_python_writes_it(clip: Path, time: str, frame: int) -> None:
    assert read_moment(f"{clip}@{time}s").frame == frame


def test_a_moment_past_the_end_is_refused_and_the_end_named(clip: Path) -> None:
    with pytest.raises(InputError, match=r"clip\.mov: has no moment 5 s; its last .* at 0\.9 s"):
        read_moment(f"{clip}@5s")


def test_a_video_needs_a_moment(clip: Path) -> None:
    with pytest.raises(InputError, match=r"clip\.mov: a video; .* as in .*clip\.mov@1\.5s"):
        read_moment(str(clip))


def test_a_picture_has_no_moment(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: a picture, which has no moment 1\.5 s"):
        read_moment(f"{path}@1.5s")


@pytest.mark.parametrize("name", ["a@1s", "a@1s.png", "a@1.5s"])
def test_a_name_that_looks_like_a_moment_is_a_name_where_such_a_file_is(
    tmp_path: Path, name: str
) -> None:
    picture(tmp_path / "a", 10)
    path = picture(tmp_path / name, 50)
    found = read_moment(str(path))
    assert found[:3] == (path, None, None)
    assert found.pixels.max() == 50


def test_a_moment_of_a_video_whose_name_looks_like_one(tmp_path: Path) -> None:
    path = video(tmp_path / "talk@1s.mov")
    assert read_moment(f"{path}@0.5s")[:3] == (path, 5, 0.5)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("none.png", r"none\.png"),
        ("none.mp4@1s", r"none\.mp4"),
        ("none.mp4@soon", r"none\.mp4@soon"),
        ("none.mp4@-1s", r"none\.mp4@-1s"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, given: str, named: str) -> None:
    with pytest.raises(InputError, match=f"{named}: no such file"):
        read_moment(f"{tmp_path}/{given}")


@pytest.mark.parametrize("moment", ["", "@1s"])
def test_a_folder_is_no_picture_and_is_called_what_it_is(tmp_path: Path, moment: str) -> None:
    (tmp_path / "album").mkdir()
    with pytest.raises(InputError, match="album: a folder; name a file in it"):
        read_moment(f"{tmp_path / 'album'}{moment}")


# --- preprocessing


@pytest.fixture
def wide() -> NDArray[np.uint8]:
    """Bright in its centre square, dark beside it."""
    grey = np.zeros((40, 80), np.uint8)
    grey[:, 20:60] = 200
    return grey


def test_a_picture_becomes_what_the_network_was_trained_on(
    params: Params, spec: NetworkParams, wide: NDArray[np.uint8]
) -> None:
    """Size and filter come from the network's file, the way to crop from params."""
    trained = params.crop.model_copy(update={"size": 32, "resample": "area"})
    saved = SavedNetwork("tiny", build_network(spec, 32, seed=0), trained.of_training())
    assert (params.crop.size, params.crop.resample) == (128, "lanczos")
    square, without_face = preprocess(Picture(Path("me.png"), None, None, wide), saved, params.crop)
    assert np.array_equal(square, np.full((1, 32, 32), 200))
    assert not without_face  # nobody looked for one
    cmu = Path("an2i_left_angry_open.pgm")
    stretched, _ = preprocess(Picture(cmu, None, None, wide), saved, params.crop)
    assert np.array_equal(stretched[0], crop(wide, "stretch", trained))
    assert stretched[0, :, :8].max() == 0
    stretch = params.crop.model_copy(update={"recordings": "stretch"})
    same, _ = preprocess(Picture(Path("me.mp4"), 3, 0.1, wide), saved, stretch)
    assert np.array_equal(same, stretched)


def test_a_cmu_face_is_cropped_as_for_the_training_whatever_params_say_now(
    params: Params, spec: NetworkParams, wide: NDArray[np.uint8]
) -> None:
    change = {"size": 32, "resample": "area", "cmu_faces": "square"}
    trained = params.crop.model_copy(update=change)
    assert params.crop.cmu_faces == "stretch"
    saved = SavedNetwork("tiny", build_network(spec, 32, seed=0), trained.of_training())
    face = Picture(Path("an2i_left_angry_open.pgm"), None, None, wide)
    assert (preprocess(face, saved, params.crop).pixels == 200).all()


@pytest.mark.parametrize("name", ["me.png", "an2i_left_angry_open.pgm"])
def test_a_network_of_faces_sees_the_face_with_the_margin_of_its_training(
    params: Params, spec: NetworkParams, name: str
) -> None:
    trained = params.crop.model_copy(update={"size": 32, "face_margin": 0.1})
    assert params.crop.face_margin == 0.5
    network = build_network(spec.model_copy(update={"crop": "face"}), 32, seed=0)
    saved = SavedNetwork("tiny", network, trained.of_training())
    scene = Scene(320, 240, 53, (0.7, 0.45))
    grey, _ = render(Person(), yaw=0, pitch=0, scene=scene)
    expected = crop(grey, "face", trained)
    assert not np.array_equal(expected, crop(grey, "square", trained))
    found, without_face = preprocess(Picture(Path(name), None, None, grey), saved, params.crop)
    assert np.array_equal(found[0], expected)
    assert not without_face


def test_where_no_face_is_found_it_is_said_of_that_picture_alone(
    params: Params, spec: NetworkParams, wide: NDArray[np.uint8]
) -> None:
    trained = params.crop.model_copy(update={"size": 32})
    network = build_network(spec.model_copy(update={"crop": "face"}), 32, seed=0)
    saved = SavedNetwork("tiny", network, trained.of_training())
    nobody = Picture(Path("wall.png"), None, None, wide)
    pixels, without_face = preprocess(nobody, saved, params.crop)
    assert without_face
    assert np.array_equal(pixels[0], crop(wide, "square", trained))
    grey, _ = render(Person(), yaw=0, pitch=0, scene=Scene(320, 240, 53, (0.7, 0.45)))
    somebody = Picture(Path("me.png"), None, None, grey)
    found = predict(saved, params.crop, iter([somebody, nobody, somebody]))
    assert [answer.without_face for answer in found] == [False, True, False]


def test_a_network_of_objects_sees_the_centre_square_in_colour(
    params: Params, spec: NetworkParams
) -> None:
    crop_params = ColourCropParams(size=24, resample="area")
    network = build_network(spec.model_copy(update={"target": "object"}), 24, 3, seed=0)
    saved = SavedNetwork("tiny", network, crop_params)
    assert sees_colour(saved)
    scene = np.zeros((48, 144, 3), np.uint8)
    scene[:, 48:96] = 250, 120, 10
    # Of the other study's params it needs nothing.
    for given in (crop_params, params.crop):
        seen, _ = preprocess(Picture(Path("a.png"), None, None, scene), saved, given)
        assert np.array_equal(seen, np.broadcast_to([[[250]], [[120]], [[10]]], (3, 24, 24)))
    (answer,) = predict(saved, crop_params, iter([Picture(Path("a.png"), None, None, scene)]))
    assert answer.prediction in OBJECTS
    scene[:24] = 0
    seen, _ = preprocess(Picture(Path("a.png"), None, None, scene), saved, crop_params)
    assert seen[:, :12].max() == 0
    assert seen[:, 12:].min() == 10


def test_every_picture_is_answered_of_however_many(params: Params, spec: NetworkParams) -> None:
    trained = params.crop.model_copy(update={"size": 32}).of_training()
    saved = SavedNetwork("tiny", build_network(spec, 32, seed=0).eval(), trained)
    paths = [Path(f"{number}.png") for number in range(2 * BATCH + 1)]
    grey = np.zeros((8, 8), np.uint8)
    found = predict(saved, params.crop, (Picture(path, None, None, grey) for path in paths))
    assert [answer.path for answer in found] == paths


def test_a_network_of_faces_is_not_asked_in_the_folder_of_another_study(
    params: Params, spec: NetworkParams, wide: NDArray[np.uint8]
) -> None:
    trained = params.crop.model_copy(update={"size": 32}).of_training()
    saved = SavedNetwork("tiny", build_network(spec, 32, seed=0), trained)
    elsewhere = ColourCropParams(size=16, resample="area")
    with pytest.raises(InputError, match="tiny knows faces"):
        preprocess(Picture(Path("me.png"), None, None, wide), saved, elsewhere)


def quarters(size: int) -> NDArray[np.uint8]:
    """Four grey squares, none like the other."""
    return np.array([[20, 90], [160, 230]], np.uint8).repeat(size, axis=0).repeat(size, axis=1)


@pytest.mark.parametrize(("ending", "kind"), [("HEIC", "HEIF"), ("heif", "HEIF"), ("avif", "AVIF")])
def test_a_phone_s_picture_is_read_whole_and_as_a_picture(
    tmp_path: Path, ending: str, kind: str
) -> None:
    path = tmp_path / f"IMG_1.{ending}"
    Image.fromarray(quarters(300)).convert("RGB").save(path, format=kind, quality=95)
    (found,) = read_pictures(path)
    assert found[:3] == (path, None, None)
    assert np.abs(found.pixels.astype(int) - quarters(300)).mean() < 3


def test_of_a_folder_pictures_and_videos_are_taken_and_nothing_else(tmp_path: Path) -> None:
    taken = ["a.JPG", "b/c.heic", "b/d.3gp", "b/e f.mts"]
    for name in [*taken, "notes.txt", "._a.JPG", "b/._c.heic", "b/jpg"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    told: list[InputError] = []
    found = media_files(tmp_path, told.append)
    assert told == []
    # A link to nothing is named when it is read, and not passed over.
    assert found == [tmp_path / name for name in sorted([*taken, "gone.png"])]


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="no picture or video in this folder"):
        media_files(tmp_path, print)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_is_closed_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "closed").mkdir(mode=0)
    told: list[InputError] = []
    assert media_files(tmp_path, told.append) == [tmp_path / "a.png"]
    assert [str(error) for error in told] == [
        f"{tmp_path / 'closed'}: cannot be read (Permission denied)"
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_of_a_closed_folder_nobody_knows_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    told: list[InputError] = []
    assert media_files(tmp_path / "closed", told.append) == []
    assert len(told) == 1


def test_what_is_hidden_is_passed_over_but_not_a_folder_that_is_named(tmp_path: Path) -> None:
    (tmp_path / ".cache/in").mkdir(parents=True)
    for name in (".cache/in/a.png", ".trashed-b.png", "c.png"):
        picture(tmp_path / name)
    told: list[InputError] = []
    assert media_files(tmp_path, told.append) == [tmp_path / "c.png"]
    assert media_files(tmp_path / ".cache", told.append) == [tmp_path / ".cache/in/a.png"]
    assert told == []


def test_what_is_neither_file_nor_folder_is_not_opened() -> None:
    """A pipe that nobody writes to would be waited for, for ever."""
    with pytest.raises(InputError, match="/dev/null: no file that can be read"):
        next(read_pictures(Path(os.devnull)))


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_an_error_like_others(name: str) -> None:
    with pytest.raises(InputError):
        read_moment(name)


def test_a_program_that_calls_itself_a_photo_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "bin/gs"
    interpreter.parent.mkdir()
    interpreter.write_text(f"#!/bin/sh\ntouch {tmp_path}/was_run\n")
    interpreter.chmod(0o755)
    monkeypatch.setenv("PATH", f"{interpreter.parent}{os.pathsep}{os.environ['PATH']}")
    photo = tmp_path / "holiday.jpg"
    photo.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(InputError, match=r"holiday\.jpg: PostScript"):
        list(read_pictures(photo))
    assert not (tmp_path / "was_run").exists()


def test_colours_survive_being_read(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4), (200, 100, 50)).save(tmp_path / "a.png")
    (found,) = read_pictures(tmp_path / "a.png", colour=True)
    assert np.array_equal(found.pixels, np.full((4, 6, 3), (200, 100, 50)))
    (grey,) = read_pictures(tmp_path / "a.png")
    assert grey.pixels.shape == (4, 6)


def test_colours_survive_at_every_moment(tmp_path: Path) -> None:
    colours = [(200, 100, 50), (10, 90, 250)]
    frames = [Image.new("RGB", (6, 4), colour) for colour in colours]
    still, film = tmp_path / "a.png", tmp_path / "a.gif"
    frames[0].save(still)
    frames[0].save(film, save_all=True, append_images=frames[1:], duration=200)
    expected = [np.full((4, 6, 3), colour) for colour in colours]
    assert np.array_equal(read_moment(str(still), colour=True).pixels, expected[0])
    for frame, pixels in zip(read_pictures(film, colour=True), expected, strict=True):
        assert np.array_equal(frame.pixels, pixels)
        moment = read_moment(f"{film}@{frame.time}s", colour=True)
        assert np.array_equal(moment.pixels, pixels)


def test_of_several_pages_the_first_is_the_picture(tmp_path: Path) -> None:
    pages = [Image.new("L", (8, 6), brightness) for brightness in (50, 150)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    (found,) = read_pictures(tmp_path / "scan.tif")
    assert found.frame is None
    assert (found.pixels == 50).all()


def test_an_animation_cut_off_anywhere_is_read_or_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 6, 7), np.uint8)
    frames = [Image.fromarray(frame) for frame in noise]
    whole = tmp_path / "whole.gif"
    frames[0].save(whole, save_all=True, append_images=frames[1:])
    content = whole.read_bytes()
    second = content.index(b",", content.index(b",") + 1)
    cut = tmp_path / "cut.gif"
    # Through the descriptor of the second frame, where Pillow's own reader gives up variously.
    for end in range(second - 12, second + 12):
        cut.write_bytes(content[:end])
        try:
            found = list(read_pictures(cut))
        except InputError as error:
            assert str(cut) in str(error)
        else:
            assert found[0].pixels.shape == (6, 7)


@pytest.mark.parametrize(
    ("name", "codec", "kind"),
    [
        ("talk.mpg", "mpeg1video", "vob"),
        ("talk.mpg", "mpeg1video", "mpeg1video"),  # bare, outside any programme
        ("talk.MJPEG", "mjpeg", "mjpeg"),
    ],
)
def test_what_pillow_takes_for_a_picture_may_be_a_video(
    tmp_path: Path, name: str, codec: str, kind: str
) -> None:
    path = tmp_path / name
    pattern = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=1"]
    coded = ["-c:v", codec, "-f", kind, str(path)]
    subprocess.run([ffmpeg_binary(), "-v", "error", *pattern, *coded], check=True, timeout=30)
    assert len(list(read_pictures(path))) == 25
