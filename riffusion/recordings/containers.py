"""What the bytes of files say without being decoded: whose length is certain, what is damaged, what is joined."""

import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

BIT_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
UNKNOWN_SIZE = 0x7FFFF000  # of sound, and more: what writers put in who can't go back to fill it in


@dataclass(frozen=True)
class Look:
    """Whether libsndfile reads all of a file's sound, and none but its sound; and what is missing or damaged."""

    plain: bool = False
    faults: tuple[str, ...] = ()


def look(file: BinaryIO) -> Look:
    """Look at an open file's container: by its content, whatever it is named."""
    size = os.fstat(file.fileno()).st_size
    start = after_id3(file)
    file.seek(start)
    head = file.read(12)
    if head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE":
        return look_at_wav(file, size)
    if head[:4] == b"fLaC":
        return look_at_flac(file, start)
    if head[:4] == b"OggS":
        return look_at_ogg(file)
    kind = "AIFF" if head[:4] == b"FORM" else "TTA" if head[:4] == b"TTA1" else "mp4" if head[4:8] == b"ftyp" else ""
    joined = {"AIFF": is_joined_aiff, "TTA": is_joined_tta, "mp4": is_joined_mp4}.get(kind)
    if joined is None or not joined(file, start, size):
        return Look()
    return Look(faults=(f"another {kind} file is joined to it: only the first is read",))


def is_joined_aiff(file: BinaryIO, start: int, size: int) -> bool:
    """Whether another file begins behind the size that the first one tells (Apple's AIFF 1.3, "FORM")."""
    file.seek(start + 4)
    length = int.from_bytes(file.read(4), "big")
    file.seek(start + 8 + length + length % 2)
    return file.read(4) == b"FORM"


def is_joined_tta(file: BinaryIO, start: int, size: int) -> bool:
    """Whether there is another header of integer samples."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"TTA1\x01\x00", start + 4) >= 0


def is_joined_mp4(file: BinaryIO, start: int, size: int) -> bool:
    """Whether another file begins among the boxes (ISO/IEC 14496-12, 4.2); of one in fragments all may be read."""
    place, found = start, list[bytes]()
    while place + 8 <= size:
        file.seek(place)
        length, name = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        found.append(name)
        if length < 8:  # the last one, to the end of the file
            break
        place += length
    return found.count(b"ftyp") > 1 and b"moof" not in found


def after_id3(file: BinaryIO) -> int:
    """Where a file goes on behind the ID3v2 tags that some programs put before anything (id3.org, ID3v2.4, 3.1)."""
    start = 0
    while True:
        file.seek(start)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3":
            return start
        footer = 10 if head[5] & 0x10 else 0
        start += 10 + footer + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))


def look_at_wav(file: BinaryIO, size: int) -> Look:
    """Compare the sound's size in the header (in ds64, of RF64: EBU Tech 3306) with what is there."""
    long_size = None
    while len(head := file.read(8)) == 8:
        name, said = struct.unpack("<4sI", head)
        place = file.tell()
        if name == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], "little")
        if name == b"data":
            if said == 0xFFFFFFFF and long_size:
                said = long_size
            there = size - place
            if said == 0:
                return Look(plain=there < 8 or int.from_bytes(file.read(8)[4:], "little") == there - 8)
            if said > there:
                known = said < UNKNOWN_SIZE or long_size == said
                return Look(True, (f"cut short: {there} of {said} bytes of audio are there",) if known else ())
            file.seek(place + said + said % 2)
            joined = file.read(4) in (b"RIFF", b"RF64")
            return Look(True, ("another wav file is joined to it: only the first is read",) if joined else ())
        file.seek(place + said + said % 2)
    return Look()


def look_at_flac(file: BinaryIO, start: int) -> Look:
    """A FLAC file's length is certain if its STREAMINFO tells it (RFC 9639, 8.2) and no other is joined to it."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        samples = int.from_bytes(content[start + 21 : start + 26], "big") & 0xFFFFFFFFF
        place = content.find(b"fLaC", start + 4)
        while place >= 0 and content[place + 4 : place + 8] not in (b"\x00\x00\x00\x22", b"\x80\x00\x00\x22"):
            place = content.find(b"fLaC", place + 4)
    if place >= 0:
        return Look(False, (f"another FLAC file is joined to it at byte {place}: sound may be lost there",))
    return Look(samples > 0)


def look_at_ogg(file: BinaryIO) -> Look:
    """Walk over all pages (RFC 3533, 6) with their checksums; libsndfile reads one Vorbis stream, if it is whole."""
    streams, damaged, ended, place = [], [], False, 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while 0 <= place < len(content):
            if page := read_page(content, place):
                ended = bool(page[5] & 4)
                if page[5] & 2:
                    streams.append(page[27 + page[26] :][:7])
                place += len(page)
                continue
            following = content.find(b"OggS", place + 1)
            if following < 0:
                ended = ended and content[place : place + 4] != b"OggS"  # else what is behind the last page is no sound
            else:
                damaged.append(place)
            place = following
    faults = [f"damaged at byte {place}: sound is lost there" for place in damaged[:1]]
    if not ended:
        faults.append("cut short: its last page is missing")
    return Look(streams == [b"\x01vorbis"] and not faults, tuple(faults))


def read_page(content: mmap.mmap, place: int) -> bytes:
    """The Ogg page at this place; nothing if it isn't whole, or its checksum is wrong."""
    head = content[place : place + 27]
    if len(head) < 27 or head[:4] != b"OggS":
        return b""
    lengths = content[place + 27 : place + 27 + head[26]]
    page = content[place : place + 27 + len(lengths) + sum(lengths)]
    if len(page) < 27 + head[26] + sum(lengths):
        return b""
    # Ogg's checksum is zlib's polynomial with the bits the other way round, from 0 and not inverted
    turned = (page[:22] + bytes(4) + page[26:]).translate(BIT_REVERSED)
    checksum = zlib.crc32(turned, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return page if checksum.to_bytes(4, "big").translate(BIT_REVERSED) == page[22:26] else b""
