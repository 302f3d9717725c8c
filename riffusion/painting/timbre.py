"""What makes a stem sound like a voice, drums or a bass: overtones that stand out, sharp onsets, power down low."""

from dataclasses import dataclass

import numpy as np
from swift_f0 import PitchResult

from riffusion.pairs.features import VOICED, onset_peaks

OVERTONES = 8  # above the fundamental that are looked at
PERIODS = 8  # of the fundamental, at least, in a window: neighbouring overtones are then two main lobes apart
STANDS_DB = 6.0  # of an overtone above the louder of the gaps beside it
FAINTEST_DB = -60.0  # of an overtone against the frame's loudest one; below is leakage and rounding
HOP_SECONDS = 0.01
ONSET_WINDOW_SECONDS = 0.023
RISE_FRAMES = 3  # in which a band's level rises
ONSET_RANGE_DB = 50.0  # below the clip's loudest band, where silence begins
# Edges of the critical bands in Hz (Zwicker 1961), as far up as pictures reach; the first three are a bass's.
BAND_EDGES_HZ = np.array(
    [0, 100, 200, 300, 400, 510, 630, 770, 920, 1080, 1270, 1480, 1720, 2000, 2320, 2700, 3150, 3700, 4400, 5300]
    + [6400, 7700, 9500]
)
LOW_BANDS = 3


@dataclass(frozen=True)
class Timbre:
    """What is heard of a stem beside its pitch and level.

    `overtone_share` of the first overtones stand out in voiced frames, nan without any. The sound rises by `onset_db`
    at the median onset, more than at the median moment; nan without an onset. `low_share` is that of the power below
    300 Hz.
    """

    overtone_share: float
    onset_db: float
    low_share: float


class TimbreMeter:
    """The `Timbre` of a mono signal, block by block."""

    def __init__(self) -> None:
        self.standing: list[np.ndarray] = []
        self.bands: list[np.ndarray] = []

    def add(self, waveform: np.ndarray, sample_rate: int, track: PitchResult) -> None:
        """Listen to some samples (samples,), given their pitches."""
        voiced = track.confidence >= VOICED
        self.standing.append(
            standing_overtones(waveform, sample_rate, track.timestamps[voiced], track.pitch_hz[voiced])
        )
        self.bands.append(band_powers(waveform, sample_rate))

    def result(self) -> Timbre:
        """What all blocks together say."""
        standing, bands = np.concatenate(self.standing), np.concatenate(self.bands, axis=1)
        overtones = float(standing.mean()) if len(standing) else np.nan
        power = max(float(bands.sum()), 1e-20)
        return Timbre(overtones, onset_sharpness(onset_rises(bands)), float(bands[:LOW_BANDS].sum()) / power)


def standing_overtones(waveform: np.ndarray, sample_rate: int, times: np.ndarray, pitches: np.ndarray) -> np.ndarray:
    """Share of the first overtones that stand out, for each of some frames (n,) at times in s and of pitches in Hz.

    Each frame is as long as parts the overtones of its own pitch and not much longer: the vibrato of high voices would
    fill the gaps. Frames that can show no overtone are left out.
    """
    shares = np.full(len(pitches), np.nan)
    sizes = 2 ** np.ceil(np.log2(PERIODS * sample_rate / pitches)).astype(int)
    places = np.minimum(np.round(times * sample_rate).astype(int), len(waveform))
    for size in np.unique(sizes):
        some = np.flatnonzero(sizes == size)
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(waveform, size // 2 + 1), size)[places[some]]
        power = np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1)) ** 2
        bin_hz = sample_rate / size
        shares[some] = standing_share(power.astype(np.float64), pitches[some] / bin_hz, BAND_EDGES_HZ[-1] / bin_hz)
    return shares[np.isfinite(shares)]


def standing_share(power: np.ndarray, pitch: np.ndarray, top: float) -> np.ndarray:
    """Share of the overtones below `top` that stand out, for power spectra (n, bins) of pitches (n,), in bins: (n,).

    An overtone stands out if the mean power in a quarter of the pitch around it is `STANDS_DB` above that in a quarter
    around the middle of either gap beside it. Means and not maxima: those of noise lie 6 dB apart everywhere.
    """
    harmonics = np.arange(1, OVERTONES + 2)
    sums = np.pad(np.cumsum(power, axis=1), ((0, 0), (1, 0)))

    def mean_power(multiples: np.ndarray) -> np.ndarray:
        edges = [sum_below(sums, pitch[:, None] * (multiples + side)) for side in (-1 / 8, 1 / 8)]
        return (edges[1] - edges[0]) / (pitch[:, None] / 4)

    peaks, gaps = mean_power(harmonics), mean_power(np.arange(OVERTONES + 2) + 0.5)
    beside = np.maximum(gaps[:, :-1], gaps[:, 1:])
    faintest = 10 ** (FAINTEST_DB / 10) * peaks.max(axis=1, keepdims=True)
    stands = (peaks > 10 ** (STANDS_DB / 10) * beside) & (peaks > faintest)
    shown = pitch[:, None] * (harmonics + 0.625) < min(top, power.shape[1] - 1)
    stands, shown = stands[:, 1:], shown[:, 1:]  # what follows the fundamental
    counts = shown.sum(axis=1)
    return np.where(counts > 0, (stands & shown).sum(axis=1) / np.maximum(counts, 1), np.nan)


def sum_below(sums: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Power below places (n, m) on a spectrum, in bins, from its running sums (n, bins + 1)."""
    places = np.clip(places + 0.5, 0, sums.shape[1] - 1.001)  # bin b reaches from b - 0.5 to b + 0.5
    low = places.astype(int)
    share = places - low
    return (1 - share) * np.take_along_axis(sums, low, axis=1) + share * np.take_along_axis(sums, low + 1, axis=1)


def band_powers(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Power in critical bands every 10 ms: (samples,) -> (bands, frames)."""
    size, hop = 2 ** round(np.log2(ONSET_WINDOW_SECONDS * sample_rate)), round(HOP_SECONDS * sample_rate)
    padded = np.pad(waveform, size // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1)) ** 2
    edges = np.round(BAND_EDGES_HZ * size / sample_rate).astype(int)
    return np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1).T


def onset_rises(bands: np.ndarray) -> np.ndarray:
    """By how many dB the bands (bands, frames) rise within 30 ms, weighted by their amplitude then: (frames,).

    The spectral flux of logarithmic bands over a lag, as in SuperFlux (Böck and Widmer 2013), but in dB.
    """
    silence = 10 ** (-ONSET_RANGE_DB / 10) * max(float(bands.max()), 1e-20)
    levels = 10 * np.log10(np.maximum(bands, silence))
    before = np.pad(levels, ((0, 0), (RISE_FRAMES, 0)), mode="edge")[:, : levels.shape[1]]
    weights = np.sqrt(bands)
    return (weights * np.maximum(levels - before, 0)).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-12)


def onset_sharpness(rises: np.ndarray) -> float:
    """How much more a sound rises at the median of its onsets than at the median moment, in dB; nan without onsets.

    `rises` (frames,) are those of `onset_rises`. Noise rises all the time, and no more at its onsets.
    """
    onsets = onset_peaks(rises, HOP_SECONDS)
    return float(np.median(rises[onsets]) - np.median(rises)) if len(onsets) else np.nan
