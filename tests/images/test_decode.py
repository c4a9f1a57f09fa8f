import io
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from happymaps.errors import InputError
from happymaps.images.decode import read_grey, read_picture

ARROW = np.array([[10, 20, 30, 40], [50, 60, 70, 80], [90, 100, 110, 120]], np.uint8)
WHITE = 255


def pgm(values: NDArray[np.integer], maxval: int, *, plain: bool) -> bytes:
    height, width = values.shape
    header = f"{'P2' if plain else 'P5'}\n{width} {height}\n{maxval}\n".encode()
    if plain:
        return header + "\n".join(" ".join(str(v) for v in row) for row in values).encode() + b"\n"
    return header + values.astype(np.uint8 if maxval < 256 else ">u2").tobytes()


def slow_parse(content: bytes) -> list[list[int]]:
    """A PGM as its format is written down: token by token, values from 0..maxval to 0..255."""
    kind, width, height, maxval = content.split()[:4]
    start = sum(len(token) + 1 for token in (kind, width, height, maxval))
    raw = content[start:]
    if kind == b"P2":
        values = [int(token) for token in raw.split()]
    else:
        size = 1 if int(maxval) < 256 else 2
        values = [int.from_bytes(raw[i : i + size], "big") for i in range(0, len(raw), size)]
    scaled = [round(value * 255 / int(maxval)) for value in values]
    return [scaled[row * int(width) :][: int(width)] for row in range(int(height))]


def read(tmp_path: Path, content: bytes) -> NDArray[np.uint8]:
    path = tmp_path / "picture"
    path.write_bytes(content)
    grey: NDArray[np.uint8] = read_grey(path)
    assert grey.dtype == np.uint8
    return grey


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("maxval", [1, 119, 130, 159, 254, 255, 256, 1000, 65535])
def test_pgm_is_stretched_from_its_maxval(tmp_path: Path, maxval: int, plain: bool) -> None:
    values = np.linspace(0, maxval, 160).round().astype(np.int64).reshape(10, 16)
    content = pgm(values, maxval, plain=plain)
    assert read(tmp_path, content).tolist() == slow_parse(content)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(("maxval", "times"), [(85, 3), (51, 5), (119, 2)])
def test_twins_of_other_maxval_are_equally_bright(
    tmp_path: Path, maxval: int, times: int, plain: bool
) -> None:
    values = np.arange(maxval + 1)[None]
    twin = read(tmp_path, pgm(values * times, maxval * times, plain=plain))
    assert np.array_equal(read(tmp_path, pgm(values, maxval, plain=plain)), twin)


@pytest.mark.parametrize("values", [b"0 50\n100\n", b"0 # zero\n50 100"])
def test_comments_in_a_pgm(tmp_path: Path, values: bytes) -> None:
    header = b"P2\n# CREATOR: XV\n3 1 # width, height\n# maxval:\n100\n"
    assert read(tmp_path, header + values).tolist() == [[0, 128, 255]]


def test_16_bits_become_8(tmp_path: Path) -> None:
    deep = np.array([[0, 128, 129, 257, 385, 386, 32768, 65535]], np.uint16)
    content = encoded(Image.fromarray(deep), "PNG")
    assert read(tmp_path, content).tolist() == [[0, 0, 1, 1, 1, 2, 128, 255]]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_numbers_that_do_not_say_what_is_white_are_refused(
    tmp_path: Path, kind: type[np.generic]
) -> None:
    content = encoded(Image.fromarray(np.array([[0, 1, 255]], kind)), "TIFF")
    with pytest.raises(InputError, match="do not say what is white"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("bits", "zero", "rows"),
    [
        (8, "black", b"\x00\x80\xff"),
        (8, "white", b"\xff\x7f\x00"),
        (12, "black", b"\x00\x08\x00\xff\xf0"),
        (16, "black", b"\x00\x00\x00\x80\xff\xff"),
        (16, "white", b"\xff\xff\xff\x7f\x00\x00"),
    ],
)
def test_a_tiff_says_how_deep_it_is_and_whether_it_begins_at_white(
    tmp_path: Path, bits: int, zero: str, rows: bytes
) -> None:
    """Black, half and white, as the format is written down."""
    zero_is = ["white", "black"].index(zero)
    # Width, height, bits, no compression, interpretation, where the rows are, samples, rows, bytes.
    fields = {256: 3, 257: 1, 258: bits, 259: 1, 262: zero_is, 273: 8, 277: 1, 278: 1}
    fields[279] = len(rows)
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in fields.items()]
    padded = rows + b"\0" * (len(rows) % 2)
    content = b"II*\0" + struct.pack("<I", 8 + len(padded)) + padded
    content += struct.pack("<H", len(entries)) + b"".join(entries) + b"\0" * 4
    assert read(tmp_path, content).tolist() == [[0, 128, 255]]


def test_lab_is_grey_as_its_colours_are(tmp_path: Path) -> None:
    found = read(tmp_path, encoded(Image.new("LAB", (4, 4), (200, 128, 128)), "TIFF"))
    assert found.min() == found.max()
    assert abs(int(found.max()) - 194) <= 2  # L* of 78 is 194 of 255 in sRGB


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_of_every_format_become_8(tmp_path: Path, kind: str) -> None:
    content = encoded(Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)), kind)
    assert read(tmp_path, content).tolist() == [[0, 128, 255]]


def palette_picture() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 100, 100, 100])
    image.putdata([0, 1])
    return image


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "PNG"), [[WHITE]]),
        (encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 51)), "PNG"), [[204]]),
        (encoded(Image.new("RGBA", (1, 1), (80, 80, 80, 255)), "PNG"), [[80]]),
        (encoded(Image.new("LA", (1, 1), (0, 0)), "PNG"), [[WHITE]]),
        (encoded(Image.new("LA", (1, 1), (60, 255)), "PNG"), [[60]]),
        (encoded(palette_picture(), "PNG", transparency=0), [[WHITE, 100]]),
        (encoded(palette_picture(), "GIF", transparency=0), [[WHITE, 100]]),
        (encoded(palette_picture(), "PNG"), [[0, 100]]),
        (encoded(Image.new("L", (1, 1), 7), "PNG", transparency=7), [[WHITE]]),
        (encoded(Image.new("I;16", (1, 1), 7), "PNG", transparency=7), [[WHITE]]),
    ],
)
def test_white_paper_behind_what_is_transparent(
    tmp_path: Path, content: bytes, expected: list[list[int]]
) -> None:
    assert read(tmp_path, content).tolist() == expected


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage, and no orientation", b"Exif\0\0II*\0"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_does_not_cost_the_picture(tmp_path: Path, kind: str, exif: bytes) -> None:
    plain = Image.new("L", (8, 8), 90)
    content = encoded(plain, kind, exif=exif)
    assert np.abs(read(tmp_path, content).astype(int) - 90).max() <= 1


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG", 255),
        (Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG", 0),
        (Image.new("CMYK", (8, 8), (0, 0, 0, 155)), "JPEG", 100),
        (Image.new("RGB", (8, 8), (255, 0, 0)), "PNG", 76),  # ITU-R 601 luma
        (Image.new("RGB", (8, 8), (0, 255, 0)), "PNG", 150),
        (Image.new("1", (8, 8), 1), "PNG", 255),
        (Image.new("1", (8, 8), 0), "PNG", 0),
        (Image.new("L", (1, 1), 33), "PNG", 33),
    ],
)
def test_other_modes(tmp_path: Path, image: Image.Image, kind: str, expected: int) -> None:
    grey = read(tmp_path, encoded(image, kind))
    assert grey.shape == (image.height, image.width)
    assert np.abs(grey.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, ARROW),
        (2, np.fliplr(ARROW)),
        (3, np.rot90(ARROW, 2)),
        (4, np.flipud(ARROW)),
        (5, ARROW.T),
        (6, np.rot90(ARROW, -1)),
        (7, np.rot90(ARROW, 2).T),
        (8, np.rot90(ARROW, 1)),
    ],
)
@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "L"), ("TIFF", "L"), ("TIFF", "I;16"), ("TIFF", "RGBA")]
)
def test_exif_orientation_is_applied(
    tmp_path: Path, orientation: int, upright: NDArray[np.uint8], kind: str, mode: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = Image.fromarray(ARROW)
    image = Image.fromarray(ARROW.astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    assert image.mode == mode
    assert np.array_equal(read(tmp_path, encoded(image, kind, exif=exif)), upright)


@pytest.mark.parametrize("odd", [(0x0128, 1, 2), (0x0128, 7, 2), (0x011A, 2, 0), (0x011A, 7, 0)])
def test_nor_is_it_lost_to_another_field_of_a_wrong_type(
    tmp_path: Path, odd: tuple[int, int, int]
) -> None:
    """Of the unit or the number of dots an inch, as bytes or text."""
    fields = [(0x0112, 3, 1, 6), (odd[0], odd[1], 1, odd[2])]
    entries = b"".join(struct.pack("<HHIHxx", *field) for field in fields)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4)
    turned = read(tmp_path, encoded(Image.fromarray(ARROW), "PNG", exif=exif))
    assert np.array_equal(turned, np.rot90(ARROW, -1))


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8))


@pytest.mark.parametrize(
    "content",
    [
        encoded(NOISE, "PNG")[:600],
        encoded(NOISE, "PNG")[:20],
        encoded(NOISE, "JPEG")[:600],
        encoded(NOISE, "JPEG")[:3],
        encoded(NOISE, "GIF")[:600],
        pgm(np.asarray(NOISE), 255, plain=True)[:600],
        pgm(np.asarray(NOISE), 255, plain=False)[:600],
        pgm(np.array([[0, 101]]), 100, plain=True),
        b"P2\n2 1\n0\n0 0\n",
        b"P5\n",
        b"just a text\n" * 50,
        b"",
    ],
    ids=lambda content: content[:2].hex() + str(len(content)),
)
def test_damaged_or_no_picture(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"/picture: \S"):
        read(tmp_path, content)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "AVIF", "PPM"])
def test_damage_anywhere_is_an_input_error_or_harmless(tmp_path: Path, kind: str) -> None:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    whole = encoded(NOISE, kind, **({} if kind in ("GIF", "PPM") else {"exif": exif}))
    generator = np.random.default_rng(0)
    for _ in range(100):
        hurt = bytearray(whole)
        hurt[generator.integers(min(300, len(hurt)))] = generator.choice([0, 1, 127, 128, 255])
        try:
            read(tmp_path, bytes(hurt))
        except InputError:
            continue


@pytest.mark.parametrize(
    ("error", "reason"),
    [(MemoryError(), "MemoryError"), (ValueError("no end of it\n"), "no end of it")],
)
def test_a_reason_is_one_line_that_says_something(
    tmp_path: Path, error: Exception, reason: str
) -> None:
    path = tmp_path / "a.png"
    NOISE.save(path)

    def refuse(_: Image.Image) -> NDArray[np.uint8]:
        raise error

    with pytest.raises(InputError) as refused:
        read_picture(path, refuse)
    assert str(refused.value) == f"{path}: {reason}"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png"):
        read_grey(tmp_path / "none.png")


def test_a_bomb_of_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.new("L", (10, 10)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(InputError, match="megapixels; make it smaller"):
        read(tmp_path, content)
