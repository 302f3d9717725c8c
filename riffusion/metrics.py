"""What is measured of an edit, and the threshold that calls it performed."""

from dataclasses import dataclass

import numpy as np

from riffusion.features import VOICED, pitch_detector

LEVEL_RANGE_DB = (-25.0, 12.0)  # a painted stem against the backing, in its active frames; true vocals: -7 to 10
MIN_ACTIVE_SHARE = 0.25  # of the clip's frames
ACTIVE_DB = -30.0  # a frame is active when the stem's power is this near to the backing's mean power
MAX_LIKENESS = 0.75  # frames nearer to the backing's are a copy; 99 % of true vocals are under 0.55, copies over 0.85


@dataclass(frozen=True)
class Edit:
    """Level of a painted stem against the backing in dB, share of active frames, and the verdict."""

    level_db: float
    active_share: float
    performed: bool


def measure_edit(stem: np.ndarray, backing: np.ndarray) -> Edit:
    """Was a new part painted? Both are mel amplitudes (bands, frames), on one scale.

    A frame is active when the stem is loud enough against the backing and its spectrum isn't the backing's own, so
    that neither silence nor a copy of the input counts. Without an active frame the level is -inf.
    """
    stem_power = np.sum(stem.astype(np.float64) ** 2, axis=0)
    backing_power = np.sum(backing.astype(np.float64) ** 2, axis=0)
    product = np.sum(stem.astype(np.float64) * backing, axis=0)
    likeness = product / np.sqrt(stem_power * backing_power).clip(min=1e-20)
    floor = 10 ** (ACTIVE_DB / 10) * max(float(backing_power.mean()), 1e-12)
    active = (stem_power > floor) & (likeness < MAX_LIKENESS)
    share = float(active.mean())
    if not active.any():
        return Edit(-np.inf, share, False)
    level = 10 * np.log10(stem_power[active].mean() / max(float(backing_power[active].mean()), 1e-12))
    low, high = LEVEL_RANGE_DB
    return Edit(float(level), share, bool(low <= level <= high and share >= MIN_ACTIVE_SHARE))


@dataclass(frozen=True)
class Voicing:
    """Share of voiced frames in a signal, and the median fundamental frequency of those in Hz (nan without any)."""

    voiced_share: float
    median_f0_hz: float


def measure_voicing(waveform: np.ndarray, sample_rate: int) -> Voicing:
    """Pitch of a mono signal (samples,), by SwiftF0: a frame is voiced at a confidence of `VOICED`."""
    track = pitch_detector().detect(waveform, sample_rate)
    voiced = track.confidence >= VOICED
    return Voicing(float(voiced.mean()), float(np.median(track.pitch_hz[voiced])) if voiced.any() else np.nan)
