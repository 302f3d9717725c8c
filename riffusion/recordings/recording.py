"""Recordings: any file of sound, looked at once, and read as often as it takes from a file whose length is certain."""

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from riffusion.recordings import containers, ffmpeg
from riffusion.util.disk_space import refusal
from riffusion.util.errors import UserError

BLOCK_SAMPLES = 1 << 20  # read at a time
INTEGERS = {"PCM_S8": 16, "PCM_U8": 16, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}  # libsndfile's names, and bits
UNCOMPRESSED = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF")  # libsndfile's names
FLOATS = {"FLOAT": 24, "DOUBLE": 24}  # bits that are kept of them
SLACK_SECONDS = 0.2  # between the length that a container tells and what its codec makes of it
MPEG_HEADS = (b"\xff", b"ID3")  # at the beginning of files that libsndfile believes to be MPEG, and misreads
END_SECONDS = 0.1  # at the end of a bare MPEG stream, where tags are taken for sound
BARE_STREAMS = ("mp3", "aac")  # ffmpeg's names of formats without a container


@dataclass
class Recording:
    """A recording that can be read any number of times, in blocks; its samples are counted, never estimated.

    `path` is what it is called. A plain wav file is read itself, and so are FLAC and Ogg Vorbis files, unless they are
    to be decoded once; anything else is read from a wav file that ffmpeg made of it. `bits` keep all that it holds, and
    `faults` say what is missing or damaged, and where.
    """

    path: Path
    source: Path  # a regular file with the recording's bytes
    file: Path  # what is read
    rate: int
    channels: int
    samples: int
    bits: int
    integers: bool  # whether they can be read as integers, exactly
    tags: dict[str, str]
    faults: tuple[str, ...]
    decoding: tuple[int, ffmpeg.Stream] | None = None  # what ffmpeg made `file` of

    def blocks(self, dtype: str = "float32", size: int = BLOCK_SAMPLES) -> Iterator[np.ndarray]:
        """All samples, (channels, samples) at a time: "float32" or "float64" in [-1, 1], or the top bits of "int32".

        Raises UserError if there are fewer than there should be.
        """
        if self.file != self.source and not self.file.exists():
            self._decode()
        left = self.samples
        try:
            with open_sound(self.file) as sound:
                while left and len(block := sound.read(min(left, size), dtype=dtype, always_2d=True)):
                    left -= len(block)
                    yield block.T
        except soundfile.LibsndfileError as error:
            raise UserError(f"{self.path}: ends unexpectedly ({error.error_string})") from error
        if left:
            place = (self.samples - left) / self.rate
            raise UserError(f"{self.path}: cut short at {place:.2f} s of {self.samples / self.rate:.2f} s")

    def is_quick_to_seek(self) -> bool:
        """Whether any part of it is read at once: of a file of samples as they are."""
        with open_sound(self.file) as sound:
            return sound.format in UNCOMPRESSED

    @property
    def decoded_bytes(self) -> int:
        """Size of the file that it was decoded into, 0 where there is none."""
        return self.file.stat().st_size if self.file != self.source and self.file.exists() else 0

    def release(self) -> None:
        """Remove the file that it was decoded into; if the recording is read again, it is decoded again."""
        if self.file != self.source:
            self.file.unlink(missing_ok=True)

    def _decode(self) -> None:
        if self.decoding is not None:
            ffmpeg.decode(self.source, [(*self.decoding, self.file)], self.path)
            return
        with open_sound(self.source) as sound:
            copy_sound(sound, self.file, self.path)

    def require_whole(self) -> "Recording":
        """The recording itself; raises UserError if it has faults."""
        if self.faults:
            raise UserError(f"{self.path}: {self.faults[0]}")
        return self


def open_recording(
    path: Path, folder: Path, stream: int = 0, name: Path | None = None, decode_once: bool = False
) -> Recording:
    """An audio stream of any file that libsndfile or ffmpeg reads, a pipe's too; `folder` is where it is decoded.

    What it is, is told by its content; `name` is what it is called, if not by its path. With `decode_once` what
    libsndfile could decode whenever it is read is decoded there, too. Raises UserError if it can't be read, or there is
    no room in `folder`.
    """
    return open_recordings(path, [stream], folder, name, decode_once)[0]


def open_recordings(
    path: Path, streams: Sequence[int], folder: Path, name: Path | None = None, decode_once: bool = False
) -> list[Recording]:
    """Several audio streams of a file as `open_recording` opens one, decoded in one run."""
    source = regular_file(path, folder)
    path = name or path
    with source.open("rb") as file:
        head = file.read(4)
        found = containers.look(file) if head else containers.Look()
    copies = folder if decode_once else None
    if found.plain and list(streams) == [0]:
        plain = open_plain(path, source, found.faults, copies)
        if plain is not None:
            return [plain]
    nameless = link_without_ending(source, folder)
    there = ffmpeg.probe(nameless)
    if not there and list(streams) == [0] and not head.startswith(MPEG_HEADS):
        plain = open_plain(path, source, found.faults, copies, any_kind=True)
        if plain is not None:
            return [plain]
    if not there:
        raise UserError(f"{path}: not an audio file that libsndfile or ffmpeg can read")
    missing = next((stream for stream in streams if stream >= len(there)), None)
    if missing is not None:
        raise UserError(f"{path}: has no audio stream {missing}, only {len(there)} of them, from 0")
    outputs = [(stream, there[stream], nameless.with_name(f"{stream}.wav")) for stream in streams]
    complaints = ffmpeg.decode(nameless, outputs, path)
    return [read_decoded(path, nameless, output, found.faults, complaints) for output in outputs]


def regular_file(path: Path, folder: Path) -> Path:
    """A regular file with the bytes of a file, or of a pipe, which is copied into `folder`.

    Raises UserError if it is missing or can't be read.
    """
    try:
        real = path.resolve()  # of /dev/fd/63, where another process couldn't open it
        if real.is_file():
            real.open("rb").close()
            return real
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind) or stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
            raise UserError(f"{path}: is a {'folder' if stat.S_ISDIR(kind) else 'device'}, not an audio file")
        file = path.open("rb")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, RuntimeError, ValueError) as error:  # the latter two of links in a circle, and of names with NUL
        raise UserError(f"{path}: can't be read ({getattr(error, 'strerror', None) or error})") from error
    with file:
        return copy_stream(file, folder, path)


def copy_stream(stream: BinaryIO, folder: Path, name: Path) -> Path:
    """A file in `folder` with what is left of a stream. Raises UserError if there is no room for it."""
    copy, size = working_folder(folder) / "copy", 0
    try:
        with copy.open("wb") as file:
            while block := stream.read(1 << 20):
                size += file.write(block)
                if size > ffmpeg.MOST_BYTES:
                    raise UserError(f"{name}: is longer than {ffmpeg.MOST_BYTES >> 30} GiB")
    except OSError as error:
        raise refusal(folder, error, size + 1) from error
    return copy


def working_folder(folder: Path) -> Path:
    """A new folder in `folder`. Raises UserError if it can't be made."""
    try:
        return Path(tempfile.mkdtemp(dir=folder))
    except OSError as error:
        raise refusal(folder, error) from error


def link_without_ending(source: Path, folder: Path) -> Path:
    """A link to a file, in a folder of its own: ffmpeg takes some endings for headerless sound, whatever is inside."""
    link = working_folder(folder) / "sound"
    try:
        link.symlink_to(source)
    except OSError:  # a file system without links
        return source
    return link


def open_sound(path: Path) -> soundfile.SoundFile:
    """A file for libsndfile to read by its content: a descriptor has no name that misleads, or can't be encoded."""
    return soundfile.SoundFile(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)))


def open_plain(
    path: Path, source: Path, faults: tuple[str, ...], copies: Path | None = None, any_kind: bool = False
) -> Recording | None:
    """A recording that libsndfile reads from the file itself; none if it can't.

    Without `any_kind` it has to be one whose length it knows for certain: of samples as they are, FLAC or Vorbis. What
    is compressed is decoded into the folder `copies`, if that is given.
    """
    file = source
    try:
        with open_sound(source) as sound:
            kind = sound.subtype
            if not any_kind and kind not in (*INTEGERS, *FLOATS, "VORBIS"):
                return None
            rate, channels, samples, tags = sound.samplerate, sound.channels, sound.frames, sound.copy_metadata()
            if copies is not None and sound.format not in UNCOMPRESSED:
                file = working_folder(copies) / "decoded.wav"
                copy_sound(sound, file, path)
    except soundfile.LibsndfileError:
        return None
    bits = (INTEGERS | FLOATS).get(kind, 16)
    plain = Recording(path, source, file, rate, channels, samples, bits, kind in INTEGERS, tags, faults)
    return check_length(plain)


def copy_sound(sound: soundfile.SoundFile, copy: Path, path: Path) -> None:
    """Write what is left of a file, known as `path`, into a wav file with exactly its samples, which is fast to read.

    Raises UserError if it can't be decoded or there is no room.
    """
    integers, needed = sound.subtype in INTEGERS, 4 * sound.frames * sound.channels
    subtype = f"PCM_{INTEGERS[sound.subtype]}" if integers else "DOUBLE" if sound.subtype == "DOUBLE" else "FLOAT"
    try:
        name = os.fsencode(copy)
        with soundfile.SoundFile(name, "w", sound.samplerate, sound.channels, subtype, format="RF64") as file:
            for block in read_blocks(sound, "int32" if integers else "float64", path):
                file.write(block)
    except (OSError, soundfile.LibsndfileError, AssertionError) as error:
        raise refusal(copy.parent, error, needed) from error


def read_blocks(sound: soundfile.SoundFile, dtype: str, path: Path) -> Iterator[np.ndarray]:
    """What is left of a file, known as `path`, (samples, channels) at a time. Raises UserError if it can't be read."""
    try:
        while len(block := sound.read(BLOCK_SAMPLES, dtype=dtype, always_2d=True)):
            yield block
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: ends unexpectedly ({error.error_string})") from error


def read_decoded(
    path: Path,
    source: Path,
    output: tuple[int, ffmpeg.Stream, Path],
    faults: tuple[str, ...],
    complaints: list[str],
) -> Recording:
    """The recording that `ffmpeg.decode` made an output of."""
    number, stream, file = output
    try:
        with open_sound(file) as sound:
            rate, channels, samples, integers = (
                sound.samplerate,
                sound.channels,
                sound.frames,
                sound.subtype in INTEGERS,
            )
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: ffmpeg's output can't be read ({error.error_string})") from error
    decoded = Recording(
        path, source, file, rate, channels, samples, stream.bits, integers, stream.tags, faults, (number, stream)
    )
    check_length(decoded)
    decoded.faults += decoding_faults(decoded, complaints)
    if integers and stream.bits == 32:
        decoded.bits = used_bits(decoded)
    return decoded


def check_length(recording: Recording) -> Recording:
    """The recording itself; raises UserError if it lasts longer than any does."""
    if recording.samples > ffmpeg.MOST_SECONDS * recording.rate:
        hours = ffmpeg.MOST_SECONDS // 3600
        raise UserError(f"{recording.path}: its header claims more than {hours} hours at {recording.rate} Hz")
    return recording


def decoding_faults(decoded: Recording, complaints: list[str]) -> tuple[str, ...]:
    """What of a stream didn't come out of ffmpeg, and where. Complaints of what costs no sound don't count."""
    assert decoded.decoding is not None
    number, stream = decoded.decoding
    seconds = decoded.samples / decoded.rate
    damage = None
    if stream.container == "flac":  # a frame that isn't found is no complaint, but the frames are numbered
        damage = ffmpeg.first_damage(decoded.source, number, begin=0.0)
        damage = seconds if damage is None and complaints else damage
    elif complaints and stream.container != "ogg":  # whose pages have been looked at
        damage = ffmpeg.first_damage(decoded.source, number)
    if damage is not None and stream.container in BARE_STREAMS and damage > seconds - END_SECONDS:
        damage = None
    said = seconds if stream.seconds is None else stream.seconds
    if damage is not None:
        reason = complaints[0] if complaints else "frames are missing"
        what = "damaged, or joined to another file," if stream.container in BARE_STREAMS else "damaged"
        return (f"{what} at {damage:.2f} s: {seconds:.2f} s of {said:.2f} s can be read ({reason})",)
    return (f"cut short at {seconds:.2f} s of {said:.2f} s",) if seconds < said - SLACK_SECONDS else ()


def used_bits(recording: Recording) -> int:
    """The least bits that keep all samples of integers: some codecs say 32 where the lowest are never used."""
    used = 0
    for block in recording.blocks("int32"):
        used |= int(np.bitwise_or.reduce(block, axis=None))
    return next(bits for bits in ffmpeg.PCM if bits == 32 or not used & ((1 << (32 - bits)) - 1))
