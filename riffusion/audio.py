"""Audio files: float32 (channels, samples) in memory, integers only at the file's edge."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from riffusion.recordings import id3
from riffusion.recordings.recording import BLOCK_SAMPLES, Recording, open_recording
from riffusion.util.disk_space import refusal
from riffusion.util.errors import UserError

MOST_SAMPLE = 2.0**32  # of floats: integers of 32 bits are smaller, and spectra of what isn't larger fit into float32
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
Mix = Callable[[np.ndarray, int], np.ndarray]


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


def mean_of_channels(block: np.ndarray, rate: int) -> np.ndarray:
    """(channels, samples), of whatever rate, to (samples,)."""
    return block.mean(axis=0)


def mono_blocks(
    source: Path | Recording, sample_rate: int, stream: int = 0, mix: Mix = mean_of_channels
) -> Iterator[np.ndarray]:
    """What `open_audio` reads, mixed down to one channel and resampled by soxr: float32 (samples,) at a time.

    `mix` makes (samples,) of each block (channels, samples) and its rate, from the first one on. Nothing
    comes of an empty file. Raises UserError if the file can't be read or is not finite.
    """
    with open_audio(source, stream) as recording:
        resampler = soxr.ResampleStream(recording.rate, sample_rate, 1, dtype="float32", quality="HQ")
        for block in recording.blocks(size=BLOCK_SAMPLES):
            mono = mix(check_audio(block, recording.path), recording.rate)
            yield mono if recording.rate == sample_rate else resampler.resample_chunk(mono)
        if recording.rate != sample_rate:
            yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


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
        raise UserError(f"{path}: holds no samples")
    peak = float(np.maximum(audio.max(), -audio.min()))  # NaN if there is one
    if not np.isfinite(peak):
        raise UserError(f"{path}: holds samples that are NaN or infinite")
    if peak > most:
        raise UserError(f"{path}: holds samples up to {peak:g}, which no sound has: it is damaged")
    return audio


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


def save_wav(path: Path, samples: np.ndarray, rate: int, bits: int = 16) -> None:
    """Write int32 samples (channels, samples) of `bits` bits, or float audio, which is rounded first."""
    if not np.issubdtype(samples.dtype, np.integer):
        samples = to_integers(samples, bits)
    with open_output(path, rate, len(samples), bits) as file:
        write_integers(file, samples, bits)


def open_output(
    path: Path, rate: int, channels: int, bits: int = 16, tags: dict[str, str] | None = None
) -> soundfile.SoundFile:
    """An audio file to write, in that one of `FORMATS` which its ending names; lossy ones have no bits to choose.

    `tags` are those of `carried_tags`; an mp3 file gets them by `finish_output`. Raises UserError if the format can't
    hold such a signal.
    """
    chosen = format_of(path)
    kind, subtype = chosen.kind, chosen.subtype(bits)
    try:
        if chosen.rates and rate not in chosen.rates:  # the encoder would take another, and not say so
            raise ValueError(f"{kind.lower()} has no such sample rate")
        file = soundfile.SoundFile(os.fsencode(path), "w", rate, channels, subtype, format=kind)
    except (soundfile.LibsndfileError, ValueError) as error:
        what = f"{channels} channel{'s' * (channels > 1)} of {rate} Hz as {kind} {subtype}"
        reason = error.error_string if isinstance(error, soundfile.LibsndfileError) else error
        raise UserError(f"{path}: can't be written, with {what} ({reason})") from error
    for name, text in (tags or {}).items():
        if kind != "MP3":
            setattr(file, name, text)
    return file


def format_of(path: Path) -> Format:
    """The format that a file's name ends in."""
    return FORMATS[path.suffix[1:].lower()]


def finish_output(path: Path, tags: dict[str, str]) -> None:
    """Write into a closed output file what `open_output` can't."""
    if format_of(path).kind == "MP3" and tags:
        id3.put_before(path, tags)


def carried_tags(tags: dict[str, str], trial: Path, rate: int, channels: int, bits: int) -> dict[str, str]:
    """Those of a recording's tags that a file such as `trial`, which is written, gives back as they are.

    Raises UserError if the format can't hold such a signal.
    """
    carried = {name: text for name, text in tags.items() if is_text(text)}
    while True:
        with open_output(trial, rate, channels, bits, carried) as file:
            write_integers(file, np.zeros((channels, 1024), dtype=np.int32), bits)
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


def write_integers(file: soundfile.SoundFile, samples: np.ndarray, bits: int) -> None:
    """Append integer samples (channels, samples) of `bits` bits to a file."""
    shifted = np.left_shift(samples.astype(np.int32), 32 - bits)  # libsndfile takes the top bits of an int32
    for first in range(0, shifted.shape[1], 1 << 16):  # its Vorbis encoder keeps a block on the stack
        try:
            file.write(shifted.T[first : first + (1 << 16)])
        except soundfile.LibsndfileError as error:
            raise UserError(f"{os.fsdecode(file.name)}: can't be written ({error.error_string})") from error


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
