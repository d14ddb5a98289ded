"""Image files as a viewer shows them: depth, orientation, transparency, frames, refusals."""

import io
import struct
import zlib

from common.settings import InputError

import numpy as np
import pytest
from PIL import Image

from readers import pixels
from readers.images import read_image
from readers.pixels import IMAGE_ENDINGS, read_rgb
from tests.damage import check_message

RAMP = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
EIGHT_BITS = np.round(RAMP / 257).astype(int)


def write_12_bit_tiff(path):
    """RAMP's upper 12 bits, packed two in three bytes, as Pillow cannot write them."""
    pairs = (RAMP.ravel() >> 4).reshape(-1, 2).tolist()
    data = b"".join(((a << 12) | b).to_bytes(3, "big") for a, b in pairs)
    tags = [(256, 8), (257, 8), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 8)]
    tags += [(279, len(data)), (339, 1)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    path.write_bytes(start + data + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0")


def write_grey(kind):
    """A function of a path that writes RAMP there."""
    if kind == "plain.pgm":
        text = f"P2 8 8 65535\n{' '.join(map(str, RAMP.ravel()))}\n"
        return lambda path: path.write_text(text)
    if kind == "raw.pgm":
        return lambda path: path.write_bytes(b"P5 8 8 65535\n" + RAMP.astype(">u2").tobytes())
    if kind == "big-endian.tif":
        image = Image.frombytes("I;16B", (8, 8), RAMP.astype(">u2").tobytes())
        return lambda path: image.save(path)
    if kind == "white-is-zero.tif":
        return lambda path: Image.fromarray(65535 - RAMP).save(path, tiffinfo={262: 0})
    if kind == "12-bits.tif":
        return write_12_bit_tiff
    options = {"lzw.tif": {"compression": "tiff_lzw"}, "lossless.jp2": {"irreversible": False}}
    return lambda path: Image.fromarray(RAMP).save(path, **options.get(kind, {}))


@pytest.mark.parametrize(
    "kind",
    [
        *("png.png", "little-endian.tif", "lzw.tif", "big-endian.tif", "white-is-zero.tif"),
        *("12-bits.tif", "raw.pgm", "plain.pgm", "lossless.jp2"),
    ],
)
def test_sixteen_bits_are_scaled_to_eight(tmp_path, kind):
    path = tmp_path / kind
    write_grey(kind)(path)
    image, corrections = read_rgb(path)
    assert np.abs(np.asarray(image).astype(int) - EIGHT_BITS[..., None]).max() <= 1
    assert corrections == [pixels.SCALED]


# Where the first row and the first column of the stored pixels are seen, by EXIF's own definition.
TURNS = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored.swapaxes(0, 1)[::-1],
}
PLATE = np.zeros((32, 48, 3), dtype=np.uint8)  # four colours, so that no turn goes unseen
PLATE[:16, :24], PLATE[:16, 24:], PLATE[16:, :24] = (250, 0, 0), (0, 250, 0), (0, 0, 250)


def write_turned(path, orientation, **options):
    exif = Image.Exif()
    exif[0x112] = orientation
    if path.suffix == ".tif":
        Image.fromarray(PLATE).save(path, tiffinfo={274: orientation}, **options)
    else:
        Image.fromarray(PLATE).save(path, exif=exif, **options)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize(
    "name, options",
    [
        ("a.jpg", {"quality": 95}),
        ("a.png", {}),
        ("a.webp", {"lossless": True}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.avif", {"quality": 100}),
    ],
)
def test_images_are_turned_as_exif_says(tmp_path, name, options, orientation):
    write_turned(tmp_path / name, orientation, **options)
    image, corrections = read_rgb(tmp_path / name)
    expected = TURNS[orientation](PLATE).astype(int)
    assert image.size == expected.shape[1::-1]
    difference = np.abs(np.asarray(image).astype(int) - expected)
    assert np.median(difference) <= 3 and difference.mean() < 15  # JPEG blurs the edges
    assert corrections == ([pixels.TURNED] if orientation > 1 else [])


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_orientations_that_do_not_exist_turn_nothing(tmp_path, orientation):
    write_turned(tmp_path / "a.png", orientation)
    image, corrections = read_rgb(tmp_path / "a.png")
    assert (np.asarray(image) == PLATE).all() and corrections == []


def test_damaged_exif_turns_nothing(tmp_path, recwarn):
    Image.fromarray(PLATE).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0junk")
    assert (np.asarray(read_rgb(tmp_path / "a.png")[0]) == PLATE).all()


def test_the_frame_is_that_of_the_turned_image(tmp_path):
    write_turned(tmp_path / "a.png", 6)
    corner = read_image(tmp_path / "a.png", 4, (0, 0, 0.2, 0.2))
    assert (corner == [0, 0, 250]).all()  # the stored image's lower left corner


# ----------------------------------------------------------------------------- transparency

HALF = np.zeros((8, 8), dtype=bool)
HALF[:, 4:] = True  # the part that is seen
ALPHA = Image.fromarray(np.where(HALF, 255, 0).astype(np.uint8))
COLOUR = (200, 40, 90)


def in_colour(alpha):
    image = Image.new("RGB", (8, 8), COLOUR)
    image.putalpha(alpha)
    return image


def in_grey(alpha):
    image = Image.new("L", (8, 8), 90)
    image.putalpha(alpha)
    return image


def with_palette():
    """Index 0 is black, 1 is COLOUR."""
    image = Image.fromarray(HALF.astype(np.uint8))
    image = Image.frombytes("P", (8, 8), image.tobytes())
    image.putpalette([0, 0, 0, *COLOUR])
    return image


def two_colours():
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[HALF] = COLOUR
    return Image.fromarray(image)


GREY = Image.fromarray(np.where(HALF, 90, 7).astype(np.uint8))
DEEP = Image.fromarray(np.where(HALF, 90 * 257, 7).astype(np.uint16))
TRANSPARENT = {
    "rgba.png": (in_colour(ALPHA), {}, COLOUR),
    "rgba.webp": (in_colour(ALPHA), {"lossless": True}, COLOUR),
    "rgba.tif": (in_colour(ALPHA), {}, COLOUR),
    "la.png": (in_grey(ALPHA), {}, (90, 90, 90)),
    "la.tif": (in_grey(ALPHA), {}, (90, 90, 90)),
    "palette.gif": (with_palette(), {"transparency": 0}, COLOUR),
    "palette.png": (with_palette(), {"transparency": 0}, COLOUR),
    "palette-bytes.png": (with_palette(), {"transparency": b"\0\xff"}, COLOUR),
    "rgb-key.png": (two_colours(), {"transparency": (0, 0, 0)}, COLOUR),
    "grey-key.png": (GREY, {"transparency": 7}, (90, 90, 90)),
    "deep-key.png": (DEEP, {"transparency": 7}, (90, 90, 90)),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparent_pixels_are_white(tmp_path, name, recwarn):
    image, options, colour = TRANSPARENT[name]
    image.save(tmp_path / name, **options)
    seen, corrections = read_rgb(tmp_path / name)
    expected = np.where(HALF[..., None], colour, 255)
    assert np.abs(np.asarray(seen) - expected).max() <= 1
    assert pixels.ON_WHITE in corrections


def png_chunk(name, data):
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


def write_png(path, width, bits, colour_type, row, key):
    """A PNG of one row in a depth that Pillow does not write, with a transparent value."""
    header = struct.pack(">IIBBBBB", width, 1, bits, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", key), (b"IDAT", zlib.compress(b"\0" + row))]
    chunks += [(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))


@pytest.mark.parametrize(
    "bits, row, key, expected",
    [
        (2, b"\x1b", 0, [255, 85, 170, 255]),
        (2, b"\x1b", 1, [0, 255, 170, 255]),
        (2, b"\x1b", 2, [0, 85, 255, 255]),
        (4, b"\x5a\x0f", 5, [255, 170, 0, 255]),
        (4, b"\x5a\x0f", 0, [85, 170, 255, 255]),
        (1, b"\x50", 0, [255, 255, 255, 255]),
        (1, b"\x50", 1, [0, 255, 0, 255]),
    ],
)
def test_a_transparent_grey_of_few_bits(tmp_path, bits, row, key, expected):
    write_png(tmp_path / "a.png", 4, bits, 0, row, struct.pack(">H", key))
    image, corrections = read_rgb(tmp_path / "a.png")
    assert np.asarray(image)[0].tolist() == [[grey] * 3 for grey in expected]
    assert corrections == [pixels.ON_WHITE]


@pytest.mark.parametrize("alpha", [64, 128, 254])
def test_half_transparent_pixels_are_mixed_with_white(tmp_path, alpha):
    in_colour(Image.new("L", (8, 8), alpha)).save(tmp_path / "a.png")
    expected = [(value * alpha + 255 * (255 - alpha)) / 255 for value in COLOUR]
    assert np.abs(np.asarray(read_rgb(tmp_path / "a.png")[0]) - expected).max() <= 1


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_opaque_alpha_is_no_correction(tmp_path, name):
    in_colour(Image.new("L", (8, 8), 255)).save(tmp_path / name)
    assert read_rgb(tmp_path / name)[1] == []


# ----------------------------------------------------------------------------- other kinds


@pytest.mark.parametrize(
    "name, mode, options, corrections",
    [
        ("a.png", "1", {}, []),
        ("a.tif", "1", {"compression": "group4"}, []),
        ("a.pbm", "1", {}, []),
        ("a.bmp", "1", {}, []),
        ("a.png", "L", {}, []),
        ("a.png", "P", {}, []),
        ("a.bmp", "P", {}, []),
        ("a.tif", "YCbCr", {}, []),
        ("a.tif", "LAB", {}, []),
        ("a.jpg", "CMYK", {"quality": 100}, [pixels.CMYK]),
        ("a.tif", "CMYK", {}, [pixels.CMYK]),
    ],
)
def test_other_colour_modes(tmp_path, name, mode, options, corrections):
    image = Image.fromarray(PLATE).convert(mode)
    image.save(tmp_path / name, **options)
    seen, corrected = read_rgb(tmp_path / name)
    difference = np.abs(np.asarray(seen).astype(int) - np.asarray(image.convert("RGB")))
    assert np.median(difference) <= 2 and difference.mean() < 15 and corrected == corrections


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif", "a.avif"])
def test_the_first_of_several_frames_is_taken(tmp_path, name):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    image, corrections = read_rgb(tmp_path / name)
    assert np.abs(np.asarray(image).astype(int) - [255, 0, 0]).max() <= 5
    assert corrections == [pixels.FIRST_FRAME]


def test_previews_of_a_photo_are_no_frames(tmp_path):
    preview = Image.new("RGB", (8, 8), "blue")
    photo = Image.new("RGB", (16, 16), "red")
    photo.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    image, corrections = read_rgb(tmp_path / "a.jpg")
    assert image.size == (16, 16) and corrections == []


@pytest.mark.parametrize("ending", IMAGE_ENDINGS)
def test_content_counts_not_the_ending(tmp_path, ending):
    content = io.BytesIO()
    Image.fromarray(PLATE).save(content, "PNG")
    (tmp_path / f"a{ending}").write_bytes(content.getvalue())
    assert (np.asarray(read_rgb(tmp_path / f"a{ending}")[0]) == PLATE).all()


# ----------------------------------------------------------------------------- refused by name


def save(image, name="a.tif", **options):
    return lambda folder: image.save(folder / name, **options) or folder / name


def put(content, name="a.png"):
    return lambda folder: (folder / name).write_bytes(content) and folder / name


def empty(folder):
    (folder / "a.jpg").touch()
    return folder / "a.jpg"


def dangling(folder):
    (folder / "a.jpg").symlink_to("/no/where.jpg")
    return folder / "a.jpg"


def deep_key(folder):
    write_png(folder / "a.png", 1, 16, 2, b"\xff" * 6, b"\xff" * 6)
    return folder / "a.png"


REFUSED = {
    "a transparent colour of 16 bits": (deep_key, "8 bits a channel"),
    "floating point": (save(Image.new("F", (8, 8), 0.5)), "8 bits a channel"),
    "32 bits": (save(Image.new("I", (8, 8), 70000)), "8 bits a channel"),
    "signed": (save(Image.new("L", (8, 8)), tiffinfo={339: 2}), "8 bits a channel"),
    "all transparent": (save(in_colour(Image.new("L", (8, 8))), "a.png"), "nothing to see"),
    "postscript": (put(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "JPEG, "),
    "web page": (put(b"<!DOCTYPE html><html>404</html>", "a.jpg"), "JPEG, "),
    "web page by name": (
        put(b"\n<HTML><body>Forbidden", "a.jpg"),
        "it is a web page, as a download",
    ),
    "text": (
        put(b"Access denied for key x", "a.jpg"),
        'it is text that begins with "Access denied',
    ),
    "SVG": (put(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), "it is XML, such as an SVG drawing"),
    "HEIC by name": (put(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a.jpg"), "it is a HEIC photo"),
    "Git LFS": (
        put(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "a.jpg"),
        "it is a pointer of Git LFS, not the image itself); run git lfs pull where",
    ),
    "HEIC": (put(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 99, "a.jpg"), "JPEG, "),
    "empty": (empty, "the file is empty"),
    "dangling link": (dangling, "link to /no/where.jpg"),
    "too many pixels": (put(b"P5 99999 99999 255\n"), "exceeds limit"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_name(tmp_path, kind, recwarn):
    make, words = REFUSED[kind]
    path = make(tmp_path)
    with pytest.raises(InputError) as error:
        read_image(path, 8, 1.0)
    check_message(" ".join(str(error.value).split()), str(path), "cannot be decoded", words)


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("name", ["jpg", "png", "bmp", "gif", "webp", "tif", "ppm", "avif", "jp2"])
def test_truncated_files_are_refused(tmp_path, name, share):
    path = tmp_path / f"a.{name}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    read_image(path, 8, 1.0)
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=f"a.{name} cannot be decoded"):
        read_image(path, 8, 1.0)
