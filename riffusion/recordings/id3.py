"""ID3v2.4 tags (id3.org): libsndfile writes UTF-8 into mp3 files' tags and says that it is Latin-1."""

FRAMES = {
    "title": b"TIT2",
    "artist": b"TPE1",
    "album": b"TALB",
    "date": b"TDRC",
    "genre": b"TCON",
    "tracknumber": b"TRCK",
    "copyright": b"TCOP",
    "comment": b"COMM",
}
UTF8 = b"\x03"


def encode_tags(tags: dict[str, str]) -> bytes:
    """A tag with those that ID3 has a frame for, as UTF-8."""
    frames = b""
    for name, text in tags.items():
        if name in FRAMES:
            language = b"und\x00" if name == "comment" else b""  # undetermined; and no description
            body = UTF8 + language + text.encode()
            frames += FRAMES[name] + syncsafe(len(body)) + b"\x00\x00" + body
    return b"ID3\x04\x00\x00" + syncsafe(len(frames)) + frames


def syncsafe(number: int) -> bytes:
    """A size in four bytes of seven bits, so that no decoder takes it for the beginning of a frame."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))
