"""How parts sound beside true ones, in features that no model learnt from, and whether they keep the backing's time."""

import librosa
import numpy as np

from riffusion.painting.timbre import HOP_SECONDS, band_powers, onset_rises
from riffusion.pairs.features import onset_peaks

ON_TIME_SECONDS = 0.03
MEL_BANDS, CEPSTRUM, FFT, HOP = 64, 20, 2048, 512
MODULATION_HZ = (0.5, 2, 4, 8, 16, 32)
MODULATED_GROUPS = 4  # of mel bands
RANGE_DB = 60.0
MOST_DEVIATIONS = 3.0  # of a feature, so that one odd clip doesn't rule a distance


def onset_seconds(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """When a signal (samples,) has its onsets: (onsets,)."""
    return HOP_SECONDS * onset_peaks(onset_rises(band_powers(waveform, sample_rate)), HOP_SECONDS)


def on_time(onsets: np.ndarray, grid: np.ndarray, seconds: float) -> tuple[float, float]:
    """Share of onsets within 30 ms of one of the grid, and the share that falls there by chance; nan without any.

    Chance is what a uniformly drawn moment of the clip has: the share of its time that is so near to the grid.
    """
    if not len(onsets) or not len(grid):
        return np.nan, np.nan
    near = np.abs(onsets[:, None] - grid).min(axis=1) <= ON_TIME_SECONDS + 1e-9
    moments = np.arange(0, seconds, 0.001)
    covered = np.abs(moments[:, None] - grid).min(axis=1) <= ON_TIME_SECONDS
    return float(near.mean()), float(covered.mean())


def sound_features(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """What a clip (samples,) sounds like, whatever its level: (features,).

    Cepstrum of the mel spectrum, its spread and motion; spectral contrast; flatness; modulation of four groups of bands
    (0.5 to 32 Hz); how sharp its rises are; how far the pitch classes are concentrated, and how they move.
    """
    magnitude = np.abs(librosa.stft(waveform.astype(np.float32), n_fft=FFT, hop_length=HOP))
    magnitude /= max(float(magnitude.max()), 1e-9)
    mel = librosa.feature.melspectrogram(S=magnitude**2, sr=sample_rate, n_mels=MEL_BANDS, fmax=10_000)
    level = librosa.power_to_db(mel, ref=np.max, top_db=RANGE_DB)
    cepstrum = librosa.feature.mfcc(S=level, n_mfcc=CEPSTRUM)[1:]
    contrast = librosa.feature.spectral_contrast(S=magnitude + 1e-6, sr=sample_rate, n_bands=6, fmin=150)
    flatness = np.log(librosa.feature.spectral_flatness(S=magnitude + 1e-6))
    rises = onset_rises(band_powers(waveform, sample_rate))
    parts = [cepstrum.mean(axis=1), cepstrum.std(axis=1), np.abs(np.diff(cepstrum, axis=1)).mean(axis=1)]
    parts += [contrast.mean(axis=1), contrast.std(axis=1), flatness.mean(axis=1), flatness.std(axis=1)]
    parts += [modulation(level, sample_rate / HOP), np.percentile(rises, (25, 50, 75, 90, 97))]
    parts += [
        [len(onset_peaks(rises, HOP_SECONDS)) * sample_rate / len(waveform)],
        chroma_motion(magnitude, sample_rate),
    ]
    return np.concatenate(parts)


def modulation(level: np.ndarray, frame_rate: float) -> np.ndarray:
    """How strongly groups of bands (bands, frames), in dB, swell in each range of `MODULATION_HZ`, in log10 dB."""
    groups = level.reshape(MODULATED_GROUPS, -1, level.shape[1]).mean(axis=1)
    window = np.hanning(groups.shape[1])
    spectrum = np.abs(np.fft.rfft((groups - groups.mean(axis=1, keepdims=True)) * window, axis=1)) / window.sum()
    frequency = np.fft.rfftfreq(groups.shape[1], 1 / frame_rate)
    ranges = zip(MODULATION_HZ[:-1], MODULATION_HZ[1:], strict=True)
    power = [(spectrum[:, (low <= frequency) & (frequency < high)] ** 2).sum(axis=1) for low, high in ranges]
    return np.log10(np.sqrt(np.stack(power)) + 0.01).ravel()


def chroma_motion(magnitude: np.ndarray, sample_rate: int) -> np.ndarray:
    """Of the pitch classes in a tenth of a second: the loudest one's share and its spread, and how much moves."""
    chroma = librosa.feature.chroma_stft(S=magnitude**2, sr=sample_rate, tuning=0.0, norm=1)
    tenths = max(1, round(chroma.shape[1] * HOP / sample_rate / 0.1))
    slow = np.stack([part.mean(axis=1) for part in np.array_split(chroma, tenths, axis=1)], axis=1)
    moved = np.abs(np.diff(slow, axis=1, prepend=slow[:, :1])).sum(axis=0)
    return np.array([slow.max(axis=0).mean(), slow.max(axis=0).std(), moved.mean(), moved.std()])


def standardise(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Features (n, d) in standard deviations of the reference's (m, d) from its mean, limited to three."""
    scaled = (features - reference.mean(axis=0)) / np.maximum(reference.std(axis=0), 1e-6)
    return np.clip(scaled, -MOST_DEVIATIONS, MOST_DEVIATIONS)


def kernel_distance(ones: np.ndarray, others: np.ndarray, songs: list[str], other_songs: list[str]) -> float:
    """Unbiased kernel distance (Binkowski et al. 2018) between clips (n, d) and others (m, d), times 1000.

    The kernel is (x y / d + 1)^3. Pairs of one song count nowhere: clips of a song are alike, and true clips are of the
    songs that are painted over. Near 0 for clips of one kind, and then as often below; nan if no pair is left.
    """
    own, other = np.array(songs, dtype=object), np.array(other_songs, dtype=object)

    def mean(left: np.ndarray, right: np.ndarray, apart: np.ndarray) -> float:
        kernel = (left @ right.T / left.shape[1] + 1) ** 3
        return float(kernel[apart].mean()) if apart.any() else np.nan

    within = mean(ones, ones, own[:, None] != own) + mean(others, others, other[:, None] != other)
    return 1000 * (within - 2 * mean(ones, others, own[:, None] != other))
