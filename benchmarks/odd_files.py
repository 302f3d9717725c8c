"""Recordings in many formats, and what becomes of files: cut short, damaged, joined to others, under odd names."""

import os
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import soundfile

from riffusion.recordings import ffmpeg

RATE, SECONDS = 44100, 3.0
TAKES = 2  # of each recording: one to damage, one to join to it
PARTS = {"bass": 82.4, "drums": 1200.0, "other": 220.0, "vocals": 330.0}  # a song's stems, and their tones in Hz
MIXTURE, SONG = "mixture", "bass"  # the stem that is recorded in all formats
PIPED = ", piped"  # ends the name of a format that is written where its writer can't go back
STEMS = "stem.mp4"
BARE_MP3 = "-c:a libmp3lame -id3v2_version 0"

KINDS = {  # a file's ending, and ffmpeg's flags
    "wav": (".wav", "-c:a pcm_s16le"),
    "wav, float": (".wav", "-c:a pcm_f32le"),
    f"wav{PIPED}": (".wav", "-c:a pcm_s24le -f wav"),
    "flac": (".flac", "-c:a flac"),
    f"flac{PIPED}": (".flac", "-c:a flac -f flac"),
    "Ogg Vorbis": (".ogg", "-c:a libvorbis"),
    "Opus": (".opus", "-c:a libopus"),
    "mp3, constant": (".mp3", f"{BARE_MP3} -b:a 128k"),
    "mp3, variable": (".mp3", f"{BARE_MP3} -q:a 2 -write_xing 0"),
    "AAC": (".m4a", "-c:a aac -movflags +faststart"),
    "ALAC": (".m4a", "-c:a alac"),
    "WavPack": (".wv", "-c:a wavpack"),
    "TTA": (".tta", "-c:a tta"),
    "AIFF": (".aiff", "-c:a pcm_s16be"),
    STEMS: (".stem.mp4", "-c:a aac -movflags +faststart -f mp4"),
}

CHECKED = ("flac", f"flac{PIPED}", "Ogg Vorbis", "Opus", "WavPack", "TTA")  # whose frames or pages have checksums
COUNTED = [
    kind for kind in KINDS if kind not in (f"wav{PIPED}", f"flac{PIPED}", "mp3, variable")
]  # that know their length

ODD_NAMES: Sequence[str] = (
    "...And Justice for All",
    "..",
    " ",
    "-dash",
    "100% #1 hit? [live] \N{GUITAR} (take 2)",
    "two\nlines",
    "x" * 200,
    os.fsdecode(b"caf\xe9 - na\xefve"),
    "a*b",
    "[a-c]",
    "a::b",
    "{0} %s %n",
    "._take",
    "CON",
    "back\\slash",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnos",
    "e\N{COMBINING ACUTE ACCENT}tude",
    "~",
)
ODD_ENDINGS = ("", ".wav", ".mp3", ".raw", ".m4a", ".txt", ".WAV", ".ogg", ".sw", ".g722", ".flac ", ".jpg", ".opus")
TWICE = ("itself behind", "another take behind", "another take before")  # ways to join with as much sound again
FIELDS = (
    bytes(4),
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x7f\xff\xff\xff",
    b"\x00\x00\x00\x01",
    b"\x01\x00\x00\x00",
)


@dataclass(frozen=True)
class Source:
    """A recording's file, another take in the same format, and one in another."""

    name: str
    ending: str
    content: bytes
    take: bytes
    stranger: bytes


@dataclass(frozen=True)
class OddFile:
    """A file to be read; `harmless` if nothing of its sound is lost in it."""

    what: str
    content: bytes
    name: str
    ending: str
    harmless: bool = False
    seconds: float = 0.0  # of sound that are in it at least, where that is certain


def part(name: str, take: int) -> np.ndarray:
    """A stem, float64 (samples, 2): a tone that swells and grows louder, with clicks."""
    time = np.arange(round(SECONDS * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * PARTS[name] * k * time + take) / k for k in range(1, 6))
    swell = (0.5 + 0.5 * np.sin(2 * np.pi * (0.7 + 0.3 * take) * time)) * np.linspace(0.4, 1, len(time))
    clicks = np.random.default_rng(take).standard_normal(len(time)) * np.exp(-(time % 0.5) / 0.01)
    return (0.1 * tone * swell + 0.02 * clicks)[:, None] * [0.9, 1.1]


def make_recordings(folder: Path, kinds: Iterable[str] = tuple(KINDS)) -> None:
    """Write the takes of these kinds, named kind/take, and the wav files of all parts, named parts/take/name.wav."""
    for take in range(TAKES):
        parts = folder / "parts" / str(take)
        parts.mkdir(parents=True)
        stems = {name: part(name, take) for name in PARTS}
        for name, samples in {MIXTURE: sum(stems.values()), **stems}.items():
            soundfile.write(parts / f"{name}.wav", samples, RATE, "FLOAT")
        for kind in kinds:
            encode(parts, kind, folder / kind / str(take), take)


def encode(parts: Path, kind: str, path: Path, take: int) -> None:
    """Write a recording of one kind. The same bytes come out each time, and Ogg streams of other numbers a take."""
    path.parent.mkdir(exist_ok=True)
    ending, flags = KINDS[kind]
    names = [SONG] if kind != STEMS else [MIXTURE, "drums", "bass", "other", "vocals"]
    command = [str(ffmpeg.binaries()[0]), "-nostdin", "-v", "error", "-y"]
    for name in names:
        command += ["-i", str(parts / f"{name}.wav")]
    command += [text for number in range(len(names)) for text in ("-map", f"{number}:a")]
    command += [*flags.split(), "-fflags", "+bitexact", "-flags:a", "+bitexact", "-map_metadata", "-1"]
    if ending in (".ogg", ".opus"):
        command += ["-serial_offset", str(take)]
    encoded = path.with_name(f"encoded{ending}")
    done = subprocess.run([*command, "-" if kind.endswith(PIPED) else str(encoded)], stdout=subprocess.PIPE, check=True)
    path.write_bytes(done.stdout if kind.endswith(PIPED) else encoded.read_bytes())
    encoded.unlink(missing_ok=True)


def read_source(folder: Path, kind: str, rng: Random) -> Source:
    """What `make_recordings` wrote of a kind."""
    stranger = rng.choice([other for other in KINDS if other != kind])
    files = (folder / kind / "0", folder / kind / "1", folder / stranger / "0")
    return Source("take", KINDS[kind][0], *(file.read_bytes() for file in files))


def odd_file(source: Source, mutation: str, rng: Random) -> OddFile:
    """The recording after a mutation. The same `rng` brings the same file."""
    what, content = MUTATIONS[mutation](source, rng)
    if mutation != "renamed":
        seconds = 2 * SECONDS if what in TWICE else 0.0
        return OddFile(what, content, source.name, source.ending, seconds=seconds)
    name = rng.choice(ODD_NAMES)
    ending = source.ending if rng.random() < 0.4 else rng.choice(ODD_ENDINGS)
    return OddFile(f"named {name + ending!r}", content, name, ending, harmless=True)


def cut(source: Source, rng: Random) -> tuple[str, bytes]:
    """Cut short: anywhere, near the end or near the beginning."""
    size = len(source.content)
    kept = rng.choice([rng.randrange(size), rng.randrange(size), size - rng.randrange(1, 300), rng.randrange(300)])
    return f"cut to {kept} of {size} bytes", source.content[:kept]


def flipped(source: Source, rng: Random) -> tuple[str, bytes]:
    """A few bytes are others."""
    data, count = bytearray(source.content), 2 ** rng.randrange(9)
    for _ in range(count):
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    return f"{count} bytes flipped", bytes(data)


def overwritten(source: Source, rng: Random) -> tuple[str, bytes]:
    """A range is overwritten, as a bad disk or download leaves it."""
    length = min(rng.randrange(50, 6000), len(source.content) // 2)
    place = rng.randrange(len(source.content) - length)
    fill = rng.choice([b"\x55" * length, b"\xff" * length, rng.randbytes(length)])
    return f"{length} bytes overwritten at {place}", replaced(source.content, place, fill)


def zeroed(source: Source, rng: Random) -> tuple[str, bytes]:
    """A range holds zeros, as of a download in pieces."""
    length = rng.randrange(16, len(source.content) // 2)
    place = rng.randrange(len(source.content) - length)
    return f"{length} bytes zeroed at {place}", replaced(source.content, place, bytes(length))


def header(source: Source, rng: Random) -> tuple[str, bytes]:
    """Damage where a file says what it is: at its beginning, or at its end, where mp4's index may be."""
    size = len(source.content)
    length = min(rng.choice([16, 64, 64, 512, 1500]), size // 2)
    start = size - length if rng.random() < 0.2 else 0
    if rng.random() < 0.4:
        place, field = start + 4 * rng.randrange(length // 4), rng.choice(FIELDS)
        return f"header: {field.hex()} at {place}", replaced(source.content, place, field)[:size]
    data, count = bytearray(source.content), rng.randrange(1, 9)
    places = [start + rng.randrange(length) for _ in range(count)]
    for place in places:
        data[place] ^= rng.randrange(1, 256)
    return f"header: bytes flipped at {places}", bytes(data)


def spliced(source: Source, rng: Random) -> tuple[str, bytes]:
    """A range is left out, doubled, put elsewhere, or comes of another format."""
    data = source.content
    first, last = sorted(rng.sample(range(len(data)), 2))
    place = rng.randrange(len(data))
    way = rng.choice(["left out", "doubled", "put elsewhere", "put in of another format"])
    if way == "left out":
        return f"{first} to {last} {way}", data[:first] + data[last:]
    if way == "doubled":
        return f"{first} to {last} {way}", data[:last] + data[first:]
    if way == "put elsewhere":
        rest = data[:first] + data[last:]
        return f"{first} to {last} {way}", rest[:place] + data[first:last] + rest[place:]
    piece = source.stranger[: rng.randrange(1, len(source.stranger))]
    return f"{len(piece)} bytes {way} at {place}", data[:place] + piece + data[place:]


def joined(source: Source, rng: Random) -> tuple[str, bytes]:
    """Something is before it or behind it: another take, another format, tags, garbage."""
    tag = b"TAG" + b"a title".ljust(30, b"\0") + bytes(95)
    before = b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)
    junk = rng.randbytes(rng.randrange(1, 3000))
    ways = {
        "itself behind": source.content + source.content,
        "another take behind": source.content + source.take,
        "another take before": source.take + source.content,
        "another format behind": source.content + source.stranger,
        "another format before": source.stranger + source.content,
        "ID3v1 behind": source.content + tag,
        "ID3v2 before": before + source.content,
        "garbage behind": source.content + junk,
        "garbage before": junk + source.content,
        "zeros behind": source.content + bytes(len(junk)),
        "half of another take behind": source.content + source.take[: len(source.take) // 2],
    }
    way = rng.choice(list(ways))
    return way, ways[way]


def renamed(source: Source, rng: Random) -> tuple[str, bytes]:
    """Its bytes stay as they are."""
    return "", source.content


def replaced(data: bytes, place: int, piece: bytes) -> bytes:
    """The data with a piece of it overwritten from `place` on."""
    return data[:place] + piece + data[place + len(piece) :]


MUTATIONS: dict[str, Callable[[Source, Random], tuple[str, bytes]]] = {
    "cut": cut,
    "flipped": flipped,
    "overwritten": overwritten,
    "zeroed": zeroed,
    "header": header,
    "spliced": spliced,
    "joined": joined,
    "renamed": renamed,
}


def tells_damage(kind: str, mutation: str) -> bool:
    """Whether a file of this kind holds what it takes to notice the mutation, if sound is lost by it."""
    return (mutation == "cut" and kind in COUNTED) or (
        mutation in ("flipped", "overwritten", "zeroed") and kind in CHECKED
    )
