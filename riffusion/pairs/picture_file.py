"""Pictures as files: what their first and last bytes say, and reading them whole with errors that name them."""

import functools
import io
import os
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from riffusion.spectrogram_params import ExifTags
from riffusion.util.errors import UserError

HEAD_BYTES, TAIL_BYTES = 1024, 12  # what is looked at: our tags and size lie in the former
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB`\x82"
PNG_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}  # by colour type
JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}  # by number of components
JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of frames
TIFF_NUMBERS = {1: "B", 3: "H", 4: "I", 5: "II", 9: "i", 10: "ii", 11: "f", 12: "d"}  # by type; two are a fraction
READABLE_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "I;16", "I;16L", "I;16B", "I;16N")
GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")
RIFFUSION_TAGS = frozenset(map(int, ExifTags))
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class Header:
    """A picture's mode as PIL names it, its size (width, height) in pixels, and those tags that Riffusion knows."""

    mode: str
    size: tuple[int, int]
    tags: Mapping[int, Any]


def read_picture(picture: dict, name: str = "") -> Image.Image:
    """An undecoded `datasets.Image`, decoded. Raises UserError, with its file or else `name`, if it can't be."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of size and small damage: an error says what matters
            image = Image.open(_source(picture))
            image.load()
            image.getexif()
    except DAMAGE as error:
        raise UserError(f"{_named(picture, name)}: {_reason(error)}") from error
    return image


def verify_checksums(data: bytes, name: str) -> None:
    """Raise UserError if a PNG's checksums deny its bytes. Much faster than to decode it."""
    if data.startswith(PNG_START):
        try:
            Image.open(io.BytesIO(data)).verify()
        except DAMAGE as error:
            raise UserError(f"{name}: {_reason(error)}") from error


def _named(picture: dict, name: str) -> str:
    return name if picture["bytes"] is not None or picture["path"] is None else str(picture["path"])


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"can't read this picture ({error.strerror})"
    return "can't read this picture: it is cut short or damaged, or none at all"


def read_header(picture: dict, name: str = "") -> Header:
    """Mode, size and tags of an undecoded `datasets.Image`, whose `bytes` may be any buffer.

    PNG, JPEG and GIF are decoded whole only if they don't end as they must: one that was cut short is noticed, damage
    in the middle isn't. Raises UserError, with its file or else `name`, if it can't be read or its tags are no numbers.
    """
    try:
        head, tail = _ends(picture)
        header, whole = _parse(head, tail)
        if header is None or not whole:
            if not whole:
                _read_all(picture, name)
            image = Image.open(_source(picture))
            exif = image.getexif()
            header = Header(image.mode, image.size, {tag: exif[tag] for tag in ExifTags if tag in exif})
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(f"{_named(picture, name)}: {_reason(error)}") from error
    return header


def _read_all(picture: dict, name: str) -> None:
    """Decode a picture, and look at its checksums: PIL takes what it got for a picture whose rest is zeros."""
    read_picture(picture, name)
    source = _source(picture)
    data = Path(source).read_bytes() if isinstance(source, str) else source.getvalue()
    verify_checksums(data, _named(picture, name))


def _source(picture: dict) -> str | io.BytesIO:
    return picture["path"] if picture["bytes"] is None else io.BytesIO(picture["bytes"])


def _ends(picture: dict) -> tuple[bytes, bytes]:
    """The first `HEAD_BYTES` and the last `TAIL_BYTES` of a picture, or all of a smaller one."""
    data = picture["bytes"]
    if data is not None:
        return bytes(data[:HEAD_BYTES]), bytes(data[-TAIL_BYTES:])
    file = os.open(picture["path"], os.O_RDONLY | os.O_CLOEXEC)  # a third of the time of Python's own files
    try:
        head = os.read(file, HEAD_BYTES)
        os.lseek(file, -min(TAIL_BYTES, len(head)), os.SEEK_END)
        return head, os.read(file, TAIL_BYTES)
    finally:
        os.close(file)


def _parse(head: bytes, tail: bytes) -> tuple[Header | None, bool]:
    """What the ends say, None if that takes more than them; and whether the picture ends as its format must."""
    if head.startswith(PNG_START):
        return _png_header(head), tail == PNG_END
    if head.startswith(b"\xff\xd8"):
        return _jpeg_header(head), tail.endswith(b"\xff\xd9")
    return None, not head.startswith(b"GIF8") or tail.endswith(b";")


def _png_header(head: bytes) -> Header | None:
    """PNG, third edition, section 11.2: IHDR comes first, and what else matters here before IDAT."""
    if len(head) < 33 or head[12:16] != b"IHDR":
        return None
    width, height, depth, colour = struct.unpack_from(">IIBB", head, 16)
    mode = PNG_MODES.get(colour)
    if colour == 0 and depth in (1, 16):
        mode = {1: "1", 16: "I;16"}[depth]
    place, exif = 33, b""
    while place + 8 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, place)
        if kind == b"IDAT":
            return _header(mode, (width, height), exif)
        if kind == b"eXIf":
            exif = head[place + 8 : place + 8 + length]
        elif kind in (b"iTXt", b"zTXt", b"tEXt"):
            return None  # PIL finds tags in texts, too
        place += 12 + length
    return None


def _jpeg_header(head: bytes) -> Header | None:
    """ITU-T T.81, annex B: segments up to the frame's; Exif lies in the first APP1."""
    place, exif = 2, b""
    while place + 10 <= len(head) and head[place] == 0xFF:
        marker, length = struct.unpack_from(">xBH", head, place)
        if marker in JPEG_SIZES:
            height, width, components = struct.unpack_from(">HHB", head, place + 5)
            return _header(JPEG_MODES.get(components), (width, height), exif)
        if marker == 0xE1 and head[place + 4 : place + 10] == b"Exif\0\0":
            exif = head[place + 10 : place + 2 + length]
        place += 2 + length
    return None


def _header(mode: str | None, size: tuple[int, int], exif: bytes) -> Header | None:
    tags = _riffusion_tags(exif)
    return None if mode is None or tags is None or 0 in size else Header(mode, size, tags)


@functools.lru_cache(maxsize=1024)  # several pairs share a scale
def _riffusion_tags(exif: bytes) -> dict[int, object] | None:
    """Riffusion's tags in the first directory of an EXIF block (TIFF 6.0, section 2); None if they aren't numbers."""
    if not exif:
        return {}
    order = {b"MM\0*": ">", b"II*\0": "<"}.get(exif[:4])
    if order is None:
        return None
    tags: dict[int, object] = {}
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHI", exif, entry)
            if tag not in RIFFUSION_TAGS:
                continue
            if count != 1 or kind not in TIFF_NUMBERS:
                return None
            code = order + TIFF_NUMBERS[kind]
            place = entry + 8
            if struct.calcsize(code) > 4:
                (place,) = struct.unpack_from(order + "I", exif, place)
            numbers = struct.unpack_from(code, exif, place)
            tags[tag] = numbers[0] if len(numbers) == 1 else numbers[0] / numbers[1]
    except (struct.error, ZeroDivisionError):
        return None
    return tags
