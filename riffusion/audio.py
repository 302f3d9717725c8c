"""Audio files: float32 (channels, samples) in memory, integers only at the file's edge."""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import soundfile
import soxr

from riffusion.recordings import id3
from riffusion.recordings.downmix import Downmix, Mix, mean_of_channels, without_rumble
from riffusion.recordings.recording import BLOCK_SAMPLES, Recording, open_recording
from riffusion.util.disk_space import refusal
from riffusion.util.errors import UserError

MOST_SAMPLE = 2.0**32  # of floats: integers of 32 bits are smaller, and spectra of what isn't larger fit into float32
LEAST_POWER = 1e-12  # mean square
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


@dataclass(frozen=True)
class Format:
    """How libsndfile writes a format: its names for it and for its encoding, and the sample rates in Hz it can hold.

    Without an encoding it holds integers of as many bits as are asked for and is lossless; without rates, any rate.
    """

    kind: str
    encoding: str | None = None
    rates: tuple[int, ...] = ()

    @property
    def lossless(self) -> bool:
        """Whether every sample comes back as it was written."""
        return self.encoding is None

    def subtype(self, bits: int) -> str:
        """libsndfile's name for its encoding of samples of so many bits."""
        return self.encoding or f"PCM_{bits}"


FORMATS = {  # by the ending of a file's name
    "wav": Format("WAV"),
    "flac": Format("FLAC"),
    "ogg": Format("OGG", "VORBIS"),
    "mp3": Format("MP3", "MPEG_LAYER_III", MP3_RATES),
}


@contextmanager
def open_audio(source: Path | Recording, stream: int = 0) -> Iterator[Recording]:
    """A recording as it is, or an audio stream of any file that libsndfile or ffmpeg reads, to be read in blocks.

    What has to be decoded goes into a temporary file, so that memory doesn't grow with the length. Raises UserError if
    the file can't be read or has no such stream.
    """
    if isinstance(source, Recording):
        yield source
        return
    with temporary_folder() as folder:
        yield open_recording(source, folder, stream)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for working files, and for no longer. Raises UserError if there is none."""
    try:
        folder = tempfile.TemporaryDirectory()
    except OSError as error:
        place = Path(error.filename).parent if error.filename else Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108
        raise refusal(place, error) from error
    with folder as name:
        yield Path(name)


def load_audio(path: Path, sample_rate: int | None = None, stream: int = 0) -> tuple[np.ndarray, int]:
    """What `open_audio` reads, whole: float32 (channels, samples) with its rate in Hz.

    Resampled by soxr if `sample_rate` is given; what is missing or damaged is told on stderr. Raises UserError if the
    file can't be read, is empty or not finite.
    """
    with open_audio(path, stream) as recording:
        tell_faults(recording)
        return load_recording(recording, sample_rate)


def load_recording(recording: Recording, sample_rate: int | None = None) -> tuple[np.ndarray, int]:
    """A recording whole, as `load_audio` has it."""
    nothing = np.zeros((recording.channels, 0), dtype=np.float32)
    audio = check_audio(next(recording.blocks(size=max(recording.samples, 1)), nothing), recording.path)
    if sample_rate is not None and sample_rate != recording.rate:
        return resample(audio, recording.rate, sample_rate), sample_rate
    return audio, recording.rate


def tell_faults(recording: Recording) -> None:
    """Say on stderr what of a recording is missing or damaged."""
    for fault in recording.faults:
        print(f"warning: {recording.path}: {fault}", file=sys.stderr)


class MonoStream:
    """A signal mixed down to one channel and resampled by soxr, block by block; their sizes make no difference."""

    def __init__(self, rate: int, new_rate: int, mix: Mix = mean_of_channels):
        self.rate, self.mix = rate, mix
        self.resampler = soxr.ResampleStream(rate, new_rate, 1, dtype="float32", quality="HQ")
        self.is_resampled = rate != new_rate

    def add(self, block: np.ndarray) -> np.ndarray:
        """What is ready (samples,) after the next block (channels, samples), float32 both."""
        mono = self.mix(block, self.rate)
        return self.resampler.resample_chunk(mono) if self.is_resampled else mono

    def finish(self) -> np.ndarray:
        """What is left (samples,) after the last block."""
        nothing = np.zeros(0, dtype=np.float32)
        return self.resampler.resample_chunk(nothing, last=True) if self.is_resampled else nothing


def mono_blocks(
    source: Path | Recording, sample_rate: int, stream: int = 0, mix: Mix = mean_of_channels
) -> Iterator[np.ndarray]:
    """What `open_audio` reads, mixed down to one channel and resampled by soxr: float32 (samples,) at a time.

    `mix` makes (samples,) of each block (channels, samples) and its rate, from the first one on. Nothing
    comes of an empty file. Raises UserError if the file can't be read or is not finite.
    """
    with open_audio(source, stream) as recording:
        mono = MonoStream(recording.rate, sample_rate, mix)
        for block in recording.blocks(size=BLOCK_SAMPLES):
            yield mono.add(check_audio(block, recording.path))
        yield mono.finish()


def mixed_blocks(source: Path | Recording, sample_rate: int, downmix: Downmix, stream: int = 0) -> Iterator[np.ndarray]:
    """`mono_blocks` of a recording whose `Downmix` is known: float32 (samples,) at a time."""
    blocks = mono_blocks(source, sample_rate, stream, downmix.mixer())
    return without_rumble(blocks, sample_rate) if downmix.lifted else blocks


def resampled_blocks(blocks: Iterable[np.ndarray], rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """Blocks (samples,) of a mono signal at another rate, float32."""
    mono = MonoStream(rate, new_rate)
    for block in blocks:
        yield mono.add(block[None])
    yield mono.finish()


def fixed_blocks(blocks: Iterator[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Blocks (samples,) or (channels, samples) of any size as blocks of one size; the last one may be shorter."""
    ready = None
    for block in blocks:
        ready = block if ready is None else np.concatenate([ready, block], axis=-1)
        while ready.shape[-1] >= samples:
            yield ready[..., :samples]
            ready = ready[..., samples:]
    if ready is not None and ready.shape[-1]:
        yield ready


def check_audio(audio: np.ndarray, path: Path, most: float = MOST_SAMPLE) -> np.ndarray:
    """The audio (channels, samples) itself; raises UserError if it is empty, not finite or larger than `most`."""
    if audio.shape[-1] == 0:
        raise UserError(f"{path}: contains no samples")
    peak = float(np.maximum(audio.max(), -audio.min()))  # NaN if there is one
    if not np.isfinite(peak):
        raise UserError(f"{path}: contains NaN or infinite samples")
    if peak > most:
        raise UserError(f"{path}: contains samples up to {peak:g}, far beyond any audio: it is damaged")
    return audio


def decibels(power: float, reference: float) -> float:
    """A power over a reference power, in dB. Both are taken for at least 1e-12, which is -120 dBFS of samples."""
    return float(10 * np.log10(max(power, LEAST_POWER) / max(reference, LEAST_POWER)))


def resample(audio: np.ndarray, rate: float, new_rate: float) -> np.ndarray:
    """Band-limited resampling (soxr, high quality) of (channels, samples), rates in Hz."""
    return np.ascontiguousarray(soxr.resample(audio.T, rate, new_rate, quality="HQ").T)


def integer_blocks(recording: Recording, bits: int, block_samples: int) -> Iterator[np.ndarray]:
    """A recording's samples, int64 (channels, samples) of `bits` bits at a time.

    Integers that have no more bits than that come out as they are; floats are rounded, and clipped.
    """
    for block in recording.blocks("int32" if recording.integers else "float64", block_samples):
        signal = block / 2.0**31 if recording.integers else block  # a double holds 32 bits
        yield to_integers(signal, bits).astype(np.int64)


def to_integers(audio: np.ndarray, bits: int = 16) -> np.ndarray:
    """Float [-1, 1] to int32 samples of `bits` bits. The one place where audio is clipped."""
    scale = 2 ** (bits - 1)
    return np.rint(np.clip(audio.astype(np.float64) * scale, -scale, scale - 1)).astype(np.int32)


def add_on_top(original: np.ndarray, stem: np.ndarray, bits: int = 16) -> tuple[np.ndarray, np.ndarray, int]:
    """The sum of two integer signals, and the stem that it really holds.

    Where the sum would leave the range of `bits` bits the stem gives way, so that painted - stem == original to the
    last bit. Returns (painted, stem, number of samples where the stem gave way).
    """
    scale = 2 ** (bits - 1)
    original = original.astype(np.int64)
    fitting = np.clip(stem, -scale - original, scale - 1 - original)
    return original + fitting, fitting, int(np.count_nonzero(fitting != stem))


def from_integers(samples: np.ndarray, bits: int) -> np.ndarray:
    """Integer samples of `bits` bits as float32 in [-1, 1], as they are read from a file."""
    return (samples / 2.0 ** (bits - 1)).astype(np.float32)


def save_wav(path: Path, samples: np.ndarray, rate: int, bits: int = 16) -> None:
    """Write int32 samples (channels, samples) of `bits` bits, or float audio, which is rounded first.

    Raises UserError if there is no room for the file, and leaves no part of it.
    """
    if not np.issubdtype(samples.dtype, np.integer):
        samples = to_integers(samples, bits)
    writer = AudioWriter(path, rate, len(samples), bits, needed=samples.size * bits // 8)
    try:
        with writer:
            writer.write(samples)
    except UserError:
        path.unlink(missing_ok=True)
        raise


def format_of(path: Path) -> Format:
    """The format that a file's name ends in."""
    return FORMATS[path.suffix[1:].lower()]


class AudioWriter:
    """An audio file to write integers into, in that one of `FORMATS` which its name ends in.

    Lossy formats have no bits to choose. `tags` are those of `carried_tags`. Raises UserError if the format can't hold
    such a signal, and with `write` or `close` if the file can't be written whole: with the bytes that are `needed`, as
    far as that is known.
    """

    def __init__(
        self,
        path: Path,
        rate: int,
        channels: int,
        bits: int = 16,
        tags: dict[str, str] | None = None,
        needed: int = 0,
    ):
        self.path, self.bits, self.needed = path, bits, needed
        chosen, tags = format_of(path), tags or {}
        is_mp3 = chosen.kind == "MP3"
        what = f"{channels} channel{'s' * (channels > 1)} of {rate} Hz as {chosen.kind} {chosen.subtype(bits)}"
        if chosen.rates and rate not in chosen.rates:  # the encoder would take another, and not say so
            raise UserError(f"{path}: can't be written, with {what} ({chosen.kind.lower()} has no such sample rate)")
        try:
            self.file = _OutputFile(path, id3.encode_tags(tags) if is_mp3 and tags else b"")
        except OSError as error:
            raise refusal(path, error, needed) from error
        try:
            self.sound = soundfile.SoundFile(
                self.file, "w", rate, channels, chosen.subtype(bits), format=chosen.kind, closefd=False
            )
        except (soundfile.LibsndfileError, ValueError) as error:
            self.file.close()
            path.unlink()
            reason = error.error_string if isinstance(error, soundfile.LibsndfileError) else error
            raise UserError(f"{path}: can't be written, with {what} ({reason})") from error
        for name, text in tags.items():
            if not is_mp3:
                setattr(self.sound, name, text)

    def write(self, samples: np.ndarray) -> None:
        """Append integer samples (channels, samples)."""
        shifted = np.left_shift(samples.astype(np.int32), 32 - self.bits)  # libsndfile takes the top bits of an int32
        for first in range(0, shifted.shape[1], 1 << 16):  # its Vorbis encoder keeps a block on the stack
            try:
                self.sound.write(shifted.T[first : first + (1 << 16)])
            except soundfile.LibsndfileError as error:
                raise UserError(f"{self.path}: can't be written ({error.error_string})") from error
        self._require_written()

    def close(self) -> None:
        """End the file."""
        self.sound.close()
        self.file.close()
        self._require_written()

    def _require_written(self) -> None:
        if self.file.failure is not None:
            raise refusal(self.path, self.file.failure, self.needed) from self.file.failure

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        self.sound.close()
        self.file.close()


class _OutputFile:
    """A file for libsndfile to write, behind a head of our own.

    It keeps the first failure to write, which libsndfile doesn't always tell: whoever writes has to ask for it.
    """

    def __init__(self, path: Path, head: bytes):
        self.file = path.open("wb", buffering=0)
        self.failure: OSError | None = None
        self.head = self.write(head)

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.failure = self.failure or error
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset + (self.head if whence == os.SEEK_SET else 0), whence) - self.head

    def tell(self) -> int:
        return self.file.tell() - self.head

    def close(self) -> None:
        self.file.close()


def carried_tags(tags: dict[str, str], trial: Path, rate: int, channels: int, bits: int) -> dict[str, str]:
    """Those of a recording's tags that a file such as `trial`, which is written, gives back as they are.

    Raises UserError if the format can't hold such a signal.
    """
    carried = {name: text for name, text in tags.items() if is_text(text)}
    while True:
        silence = np.zeros((channels, 1024), dtype=np.int32)
        with AudioWriter(trial, rate, channels, bits, carried, needed=silence.nbytes) as file:
            file.write(silence)
        if trial.suffix.lower() == ".mp3":
            return {name: text for name, text in carried.items() if name in id3.FRAMES}
        with open_audio(trial) as recording:
            lost = [name for name, text in carried.items() if recording.tags.get(name) != text]
        if not lost:
            return carried
        del carried[max(lost, key=lambda name: len(carried[name]))]  # one that is too long takes the others with it


def is_text(text: str) -> bool:
    """Whether a tag says something, in whole characters."""
    return bool(text) and "\0" not in text and "\ufffd" not in text and text == text.encode(errors="replace").decode()


def read_tags(recording: Recording) -> dict[str, str]:
    """Title, artist, album and whatever else of that kind a recording tells, but for the software that made it.

    Fields that are there and empty, as in most ID3v1 tags, are left out: libsndfile reads them and won't write them.
    """
    tags = {name: text.strip(" \0\r\n\t") for name, text in recording.tags.items() if name != "software"}
    return {name: text for name, text in tags.items() if text}


def write_floats(path: Path, blocks: Iterable[np.ndarray], rate: int, channels: int = 1, needed: int = 0) -> int:
    """Write float32 blocks, (samples,) or (channels, samples), into a wav file to work with; how many samples.

    Raises UserError with the folder, and with the bytes that were `needed` as far as that is known, if there is no
    room for them; what goes wrong with the blocks themselves goes on as it is.
    """
    samples = 0
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
        file = soundfile.SoundFile(descriptor, "w", rate, channels, "FLOAT", format="RF64")
    except (OSError, soundfile.LibsndfileError) as error:
        raise refusal(path, error, needed) from error
    with file:
        for block in blocks:
            samples += block.shape[-1]
            try:
                file.write(block.T)
            except (OSError, soundfile.LibsndfileError, AssertionError) as error:
                raise refusal(path, error, max(needed, 4 * channels * samples)) from error
    if path.stat().st_size < 4 * channels * samples:  # libsndfile doesn't always tell that a disk is full
        raise refusal(path, OSError("is the disk full?"), max(needed, 4 * channels * samples))
    return samples
