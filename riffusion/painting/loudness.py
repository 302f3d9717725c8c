"""How loud sounds are, so that a page can play them equally loud."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from riffusion.recordings.recording import open_sound

PIECES, PIECE_SECONDS = 20, 1.0  # that are listened to, evenly spread: a whole song would take as long as its reading
MOST_DB = 12.0  # that a sound is turned down
# ITU-R BS.1770-5, tables 1 and 2: the head's shelf and the high-pass filter of K-weighting, at 48 kHz
FILTERS = (
    ([1.53512485958697, -2.69169618940638, 1.19839281085285], [1.0, -1.69065929318241, 0.73248077421585]),
    ([1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621]),
)
FILTER_RATE = 48000


def loudness_db(path: Path, start: float = 0.0, end: float | None = None) -> float:
    """K-weighted level of a sound from `start` to `end` in seconds (None: its end), as in BS.1770 without its gate.

    -inf if it is silent there. Raises soundfile.LibsndfileError if libsndfile can't read it.
    """
    with open_sound(path) as sound:
        rate, last = sound.samplerate, sound.frames
        first, last = min(int(start * rate), last), last if end is None else min(int(end * rate), last)
        length = min(int(PIECE_SECONDS * rate), last - first)
        if length <= 0:
            return -np.inf
        pieces = 1 + min(PIECES - 1, (last - first) // length)
        powers = []
        for place in np.linspace(first, last - length, pieces).astype(int).tolist():
            sound.seek(place)
            powers.append(weighted_power(sound.read(length, dtype="float32", always_2d=True).T, rate))
    power = float(np.mean(powers))
    return 10 * np.log10(power) if power > 0 else -np.inf


def weighted_power(samples: np.ndarray, rate: int) -> float:
    """Mean power of samples (channels, samples) after K-weighting, added over the channels."""
    frequencies = np.fft.rfftfreq(samples.shape[1], 1 / rate)
    weight, delays = np.ones(len(frequencies)), np.exp(-2j * np.pi * frequencies / FILTER_RATE)  # z^-1
    for zeros, poles in FILTERS:
        weight *= np.abs(np.polyval(zeros[::-1], delays) / np.polyval(poles[::-1], delays)) ** 2
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    return float(2 * (spectrum * weight).sum() / samples.shape[1] ** 2)


def matching_gains(levels: Sequence[float]) -> list[float]:
    """Factors up to 1 that make sounds of these loudnesses in dB as loud as the softest, or `MOST_DB` softer at most.

    Silent sounds don't count.
    """
    heard = [level for level in levels if np.isfinite(level)]
    return [10 ** (max(min(heard) - level, -MOST_DB) / 20) if np.isfinite(level) else 1.0 for level in levels]
