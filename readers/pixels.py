"""An image file as the RGB pixels that a viewer shows."""

import numpy as np
from PIL import ExifTags, Image, ImageOps

# Raise it whenever a file may give other pixels than before: caches are then made anew.
DECODING = 1
# What is read. Pillow knows more formats, but some run other programs, and some take any bytes.
FORMATS = ("JPEG", "MPO", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000")
IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
    *(".png", ".apng", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx"),
)
# Corrections, as they follow a number of images in a note.
TURNED = "turned as EXIF says"
SCALED = "with 16 bits a pixel, scaled to 8"
ON_WHITE = "partly transparent, laid on white"
FIRST_FRAME = "with several frames, of which the first is taken"
CMYK = "in CMYK, converted without a colour profile"
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
WHITE_IS_ZERO, SIGNED = 0, 2


def read_rgb(path):
    """An image file as a PIL image of mode RGB, and the corrections that it took, a list of str.

    Raises:
        Exception: what Pillow raises for files that it cannot decode, of many kinds; ValueError for
            pixels that have no agreed look.
    """
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    with Image.open(path, formats=formats) as image:
        _scale_key(image)
        corrections = []
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # MPO: a JPEG with previews
            corrections.append(FIRST_FRAME)
        orientation = _read_orientation(image)
        rgb = _convert(image, corrections)
        if orientation != 1:
            corrections.append(TURNED)
            if image.format != "TIFF":  # which Pillow turns itself
                exif = Image.Exif()
                exif[ExifTags.Base.Orientation] = orientation
                rgb.info = {"exif": exif.tobytes()}
                rgb = ImageOps.exif_transpose(rgb)
    return rgb, corrections


def _scale_key(image):
    """Give the grey value that a PNG calls transparent the depth that Pillow gives to its pixels.

    Raises ValueError for a colour of 16 bits, of which Pillow keeps the upper 8 only.
    """
    if image.format == "PNG" and "transparency" in image.info and image.tile:
        raw_mode = image.tile[0][3]
        if raw_mode in ("L;2", "L;4"):
            image.info["transparency"] *= 85 if raw_mode == "L;2" else 17
        elif raw_mode == "RGB;16B":
            raise ValueError("a transparent colour of 16 bits; save it with 8 bits a channel")


def _read_orientation(image):
    """EXIF's orientation, 1 to 8; 1, upright, if the file has none that can be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF, which viewers ignore; Pillow raises many kinds
        return 1
    return orientation if orientation in range(1, 9) else 1


def _convert(image, corrections):
    """An opened image as one of mode RGB; appends to the corrections. Raises ValueError."""
    image.load()
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        corrections.append(SCALED)
        image = _scale_16_bits(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode in ("I", "F") or SIGNED in np.atleast_1d(tags.get(SAMPLE_FORMAT, 1)):
        reason = "its numbers have no agreed brightness: 32 bits, signed or floating point"
        raise ValueError(f"{reason}; save it with 8 bits a channel")
    if image.mode == "CMYK":
        corrections.append(CMYK)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return _lay_on_white(image, corrections)
    return image.convert("RGB")


def _scale_16_bits(image):
    """A grey image with values of 16 bits as one with 8 (Pillow's own conversion clips)."""
    values = np.asarray(image).astype(np.int64)
    highest = 2**16 - 1
    tags = getattr(image, "tag_v2", {})
    if 12 in np.atleast_1d(tags.get(BITS_PER_SAMPLE, 16)):
        highest = 2**12 - 1
    grey = (255 * values + highest // 2) // highest
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    scaled = Image.fromarray(grey.astype(np.uint8))
    if "transparency" in image.info:  # of PNG: one value is transparent
        alpha = np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)
        scaled.putalpha(Image.fromarray(alpha))
    return scaled


def _lay_on_white(image, corrections):
    """An image with transparent pixels on white, as in a browser. Raises ValueError."""
    if image.mode == "La":  # Pillow has no direct way
        image = image.convert("LA")
    image = image.convert("RGBA")
    lowest, highest = image.getchannel("A").getextrema()
    if highest == 0:
        raise ValueError("all of it is transparent, so there is nothing to see")
    if lowest < 255:
        corrections.append(ON_WHITE)
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white
    return image.convert("RGB")
