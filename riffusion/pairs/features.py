"""What is heard in one stem of a clip: pitch, notes, onsets and level, and the words that are true of them."""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from swift_f0 import PitchResult, SwiftF0

SILENCE_DB = -120.0  # said in place of minus infinity
VOICED = 0.5  # SwiftF0's confidence in a frame that has a pitch

ONSET_DELTA = 0.07

# Thresholds of the words. They leave the middle half or so of the clips of our training songs without a word.
REGISTER_HZ = {"low": (0.0, 220.0), "high": (440.0, np.inf)}  # of the median pitch: up to A3, from A4
NOTE_SECONDS = {"short": (0.0, 0.25), "long": (0.6, np.inf)}  # of the median note
LEVEL_DB = {"vocals": (-4.5, 2.5), "bass": (-11.0, -4.0), "drums": (-8.0, 0.0), "*": (-9.5, -2.0)}  # soft and loud
PER_SECOND = {"vocals": (0.9, 2.2), "bass": (1.2, 2.2), "drums": (2.0, 4.0), "*": (1.8, 3.8)}  # sparse and dense

# Labels that a measurement can check: the feature and the range in which they are true.
CHECKED_LABELS = {
    "deep": ("median_f0_hz", 1.0, 260.0),
    "low": ("median_f0_hz", 1.0, 260.0),
    "tenor": ("median_f0_hz", 200.0, 400.0),
    "alto": ("median_f0_hz", 220.0, 480.0),
    "high": ("median_f0_hz", *REGISTER_HZ["high"]),
    "long held notes": ("note_seconds", *NOTE_SECONDS["long"]),
    "sparing": ("events_per_second", 0.0, PER_SECOND["vocals"][0]),
    "soft": ("level_db", SILENCE_DB, LEVEL_DB["vocals"][0]),
    "subdued": ("level_db", SILENCE_DB, LEVEL_DB["vocals"][0]),
    "loud": ("level_db", LEVEL_DB["vocals"][1], np.inf),
}


@dataclass(frozen=True)
class Features:
    """What was measured of a stem in a clip; 0 where there is no pitch or no note, or the instruction was fixed before.

    `events_per_second` counts notes of a voice and onsets of everything else.
    """

    level_db: float = SILENCE_DB  # against what it is heard over
    median_f0_hz: float = 0.0
    note_seconds: float = 0.0  # median
    events_per_second: float = 0.0


@functools.cache
def pitch_detector() -> "SwiftF0":
    """This process's pitch tracker (SwiftF0, 46.875 to 2093.75 Hz); one thread, because songs fill the cores."""
    from swift_f0 import SwiftF0

    return SwiftF0(threads=1)


def measure_pitch(waveform: np.ndarray, sample_rate: int) -> Features:
    """Features of a sung stem (samples,), but for its level."""
    from swift_f0 import segment_notes

    track = pitch_detector().detect(waveform, sample_rate)
    notes = segment_notes(track)
    lengths = [note.end - note.start for note in notes]
    return Features(
        median_f0_hz=median_f0(track),
        note_seconds=float(np.median(lengths)) if lengths else 0.0,
        events_per_second=len(notes) * sample_rate / len(waveform),
    )


def median_f0(track: "PitchResult") -> float:
    """Median pitch of the voiced frames in Hz, 0 without any."""
    voiced = track.confidence >= VOICED
    return float(np.median(track.pitch_hz[voiced])) if voiced.any() else 0.0


def measure_onsets(mel: np.ndarray, frame_seconds: float) -> Features:
    """Features of a stem that isn't sung, but for its level, from its mel amplitudes (bands, frames).

    Onsets are peaks of the spectral flux (Böck, Krebs and Schedl 2012).
    """
    level = np.log1p(1000 * mel / max(float(mel.max()), 1e-9))
    flux = np.maximum(np.diff(level, axis=1, prepend=level[:, :1]), 0).mean(axis=0)
    onsets = onset_peaks(flux, frame_seconds)
    return Features(events_per_second=len(onsets) / (mel.shape[1] * frame_seconds))


def onset_peaks(flux: np.ndarray, frame_seconds: float) -> np.ndarray:
    """The frames at which a flux (frames,) has the peaks of onsets: (onsets,).

    They are the highest of 70 ms, and `ONSET_DELTA` of the clip's highest over the mean of 210 ms.
    """
    flux = flux / max(float(flux.max()), 1e-9)
    highest = _windows(flux, round(0.03 / frame_seconds)).max(axis=1)
    mean = _windows(flux, round(0.1 / frame_seconds)).mean(axis=1)
    return np.flatnonzero((flux == highest) & (flux > mean + ONSET_DELTA))


def _windows(values: np.ndarray, reach: int) -> np.ndarray:
    """Every value (frames,) with `reach` neighbours on both sides: (frames, 2 * reach + 1)."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(values, reach), 2 * reach + 1)


def words(stem: str, features: Features) -> dict[str, str]:
    """What may be said of a stem, where it stands out: its register, notes, loudness and density.

    The thresholds are `REGISTER_HZ`, `NOTE_SECONDS`, `LEVEL_DB` and `PER_SECOND`.
    """
    soft, loud = LEVEL_DB.get(stem, LEVEL_DB["*"])
    sparse, dense = PER_SECOND.get(stem, PER_SECOND["*"])
    said = {
        "loudness": _word(features.level_db, {"soft": (SILENCE_DB, soft), "loud": (loud, np.inf)}),
        "density": _word(features.events_per_second, {"sparse": (1e-9, sparse), "dense": (dense, np.inf)}),
        "register": _word(features.median_f0_hz, REGISTER_HZ) if features.median_f0_hz else "",
        "notes": _word(features.note_seconds, NOTE_SECONDS) if features.note_seconds else "",
    }
    return {fact: word for fact, word in said.items() if word}


def agrees(label: str, features: Features) -> bool:
    """Whether a voice's label holds in this clip, as far as it can be measured (`CHECKED_LABELS`)."""
    if label not in CHECKED_LABELS:
        return True
    feature, low, high = CHECKED_LABELS[label]
    return low <= getattr(features, feature) <= high


def _word(value: float, ranges: dict[str, tuple[float, float]]) -> str:
    return next((word for word, (low, high) in ranges.items() if low <= value <= high), "")
