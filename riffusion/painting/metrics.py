"""What is measured of an edit, and the thresholds that call it performed."""

from dataclasses import dataclass

import numpy as np
from swift_f0 import PitchResult

from riffusion.audio import decibels
from riffusion.painting.measurements import Measurements, Verdict
from riffusion.painting.timbre import Timbre, TimbreMeter
from riffusion.pairs.features import VOICED, pitch_detector
from riffusion.pairs.tasks import Success, Task
from riffusion.util.tables import cell_text

LEVEL_RANGE_DB = (-20.0, 18.0)  # a painted stem against the backing, in its active frames; true parts: -14 to 17
MIN_ACTIVE_SHARE = 0.1  # of the clip's frames; a few cymbals are a true part
ACTIVE_DB = -30.0  # a frame is active when the stem's power is this near to the backing's mean power
# What sounds like a stem, by measurements of its `Voicing` and `Timbre`: from, to. Fixed on the control rows.
SOUNDS_LIKE: dict[str, dict[str, tuple[float, float]]] = {
    "vocals": {"voiced_share": (0.15, 1.0), "overtone_share": (0.45, 1.0)},
    "drums": {"voiced_share": (0.0, 0.65), "onset_db": (7.0, np.inf)},
    "bass": {"voiced_share": (0.1, 1.0), "low_share": (0.7, 1.0)},
}
RECORDED = {  # the same measurements in `Measurements`, and by how much they are larger there
    "voiced_share": ("voiced_percent", 100),
    "overtone_share": ("overtones_percent", 100),
    "onset_db": ("onsets_db", 1),
    "low_share": ("low_percent", 100),
}
MAX_LIKENESS = 0.75  # frames nearer to the backing's are a copy; 99 % of true vocals are under 0.55, copies over 0.85


@dataclass(frozen=True)
class PaintedLevel:
    """Level of a painted stem against the backing, in dB in its active frames, and the share of those frames."""

    level_db: float
    active_share: float

    @property
    def is_part(self) -> bool:
        """Whether it is as loud as parts are, in enough frames."""
        low, high = LEVEL_RANGE_DB
        return low <= self.level_db <= high and self.active_share >= MIN_ACTIVE_SHARE


class LevelMeter:
    """Was a new part painted? Asked of a song block by block, all on one scale.

    A frame is active when the stem is loud enough against the backing and its spectrum isn't the backing's own, so
    that neither silence nor a copy of the input counts. Without an active frame the level is -inf.
    """

    def __init__(self) -> None:
        self.frames: list[np.ndarray] = []  # (3, frames): power of the stem and of the backing, and their product

    def add(self, stem: np.ndarray, backing: np.ndarray) -> None:
        """Look at mel amplitudes (bands, frames) of both."""
        stem, backing = stem.astype(np.float64), backing.astype(np.float64)
        self.frames.append(np.stack([(stem**2).sum(axis=0), (backing**2).sum(axis=0), (stem * backing).sum(axis=0)]))

    def result(self) -> PaintedLevel:
        """The level over all blocks."""
        stem_power, backing_power, product = np.concatenate(self.frames, axis=1)
        likeness = product / np.sqrt(stem_power * backing_power).clip(min=1e-20)
        floor = 10 ** (ACTIVE_DB / 10) * max(float(backing_power.mean()), 1e-12)
        active = (stem_power > floor) & (likeness < MAX_LIKENESS)
        share = float(active.mean())
        if not active.any():
            return PaintedLevel(-np.inf, share)
        level = decibels(float(stem_power[active].mean()), float(backing_power[active].mean()))
        return PaintedLevel(level, share)


def measure_level(stem: np.ndarray, backing: np.ndarray) -> PaintedLevel:
    """`LevelMeter` of a whole clip: mel amplitudes (bands, frames) of the stem and of the backing."""
    meter = LevelMeter()
    meter.add(stem, backing)
    return meter.result()


@dataclass(frozen=True)
class Voicing:
    """Share of voiced frames in a signal, and the median fundamental frequency of those in Hz (nan without any)."""

    voiced_share: float
    median_f0_hz: float


class VoicingMeter:
    """Pitch of a mono signal, block by block, by SwiftF0: a frame is voiced at a confidence of `VOICED`."""

    def __init__(self) -> None:
        self.pitches: list[np.ndarray] = []  # Hz per frame, 0 where it isn't voiced

    def add(self, waveform: np.ndarray, sample_rate: int) -> PitchResult:
        """Listen to some samples (samples,); returns their pitches."""
        track = pitch_detector().detect(waveform, sample_rate)
        self.pitches.append(np.where(track.confidence >= VOICED, track.pitch_hz, 0))
        return track

    def result(self) -> Voicing:
        """The voicing over all blocks."""
        pitches = np.concatenate(self.pitches)
        voiced = pitches > 0
        return Voicing(float(voiced.mean()), float(np.median(pitches[voiced])) if voiced.any() else np.nan)


def measure_voicing(waveform: np.ndarray, sample_rate: int) -> Voicing:
    """`VoicingMeter` of a whole mono signal (samples,)."""
    meter = VoicingMeter()
    meter.add(waveform, sample_rate)
    return meter.result()


@dataclass(frozen=True)
class StemAnalysis:
    """All that is measured of a painted stem's sound, whatever was asked for."""

    level: PaintedLevel
    voicing: Voicing
    timbre: Timbre

    def verdict(self, task: Task, stem: str = "") -> Verdict:
        """Whether the task was done, by its own `success`; `stem` is the one that was asked for, "" if unknown."""
        if task.success is Success.SILENCE:
            return Verdict.of(self.level.active_share < MIN_ACTIVE_SHARE)
        return Verdict.of(self.is_new_part(stem)) if task.success is Success.NEW_PART else Verdict.UNKNOWN

    def is_new_part(self, stem: str = "") -> bool:
        """Whether a new part was painted, which sounds like `stem` where that is one of `SOUNDS_LIKE`."""
        return self.level.is_part and self.sounds_like(stem) is not Verdict.FAILED

    def sounds_like(self, stem: str) -> Verdict:
        """Whether it sounds like "vocals", "drums" or "bass"; unknown of other stems. What can't be measured fails."""
        if stem not in SOUNDS_LIKE:
            return Verdict.UNKNOWN
        measured = vars(self.voicing) | vars(self.timbre)
        return Verdict.of(all(low <= measured[name] <= high for name, (low, high) in SOUNDS_LIKE[stem].items()))

    @property
    def sung_share(self) -> float:
        """Share of voiced frames, each counted by the overtones that stand out in it."""
        return self.voicing.voiced_share * float(np.nan_to_num(self.timbre.overtone_share))

    def measurements(self, task: Task, stem: str = "") -> Measurements:
        """The record of it, with the verdict on a task and the stem that was asked for."""
        return Measurements(
            verdict=self.verdict(task, stem),
            level_db=self.level.level_db,
            active_percent=100 * self.level.active_share,
            voiced_percent=100 * self.voicing.voiced_share,
            pitch_hz=self.voicing.median_f0_hz,
            overtones_percent=100 * self.timbre.overtone_share,
            onsets_db=self.timbre.onset_db,
            low_percent=100 * self.timbre.low_share,
        )


def shortfalls(measured: Measurements, task: Task, stem: str = "") -> list[str]:
    """Why an edit counts as not performed: each measurement that misses its limits, with them, in words.

    `stem` is the one that was asked for, "" if unknown. Empty unless the verdict is that the edit failed.
    """
    if measured.verdict is not Verdict.FAILED:
        return []
    least = 100 * MIN_ACTIVE_SHARE
    limits = {"active_percent": (0.0, least)}
    if task.success is Success.NEW_PART:
        limits = {"level_db": LEVEL_RANGE_DB, "active_percent": (least, 100.0)}
        for name, (low, high) in SOUNDS_LIKE.get(stem, {}).items():
            recorded, factor = RECORDED[name]
            limits[recorded] = (factor * low, factor * high)
    values = {name: value for name in limits if (value := getattr(measured, name)) is not None}
    return [
        f"{measured.key(name)} {cell_text(value)} (needs {limit_in_words(*limits[name])})"
        for name, value in values.items()
        if not limits[name][0] <= value <= limits[name][1]
    ]


def limit_in_words(low: float, high: float) -> str:
    """What a measurement must be, from `low` to `high`, where 0, 100 % and infinity are no limit."""
    if high in (100, np.inf):
        return f"at least {low:g}"
    return f"at most {high:g}" if low == 0 else f"{low:g} to {high:g}"


class SoundMeter:
    """`Voicing` and `Timbre` of a mono signal, block by block."""

    def __init__(self) -> None:
        self.voicing_meter, self.timbre_meter = VoicingMeter(), TimbreMeter()

    def add(self, waveform: np.ndarray, sample_rate: int) -> None:
        """Listen to some samples (samples,)."""
        self.timbre_meter.add(waveform, sample_rate, self.voicing_meter.add(waveform, sample_rate))

    def result(self) -> tuple[Voicing, Timbre]:
        """Both over all blocks."""
        return self.voicing_meter.result(), self.timbre_meter.result()


def analyse_stem(stem: np.ndarray, mels: np.ndarray, sample_rate: int) -> StemAnalysis:
    """Analyse a painted stem (samples,), given its mel amplitudes and the backing's (2, bands, frames)."""
    meter = SoundMeter()
    meter.add(stem, sample_rate)
    return StemAnalysis(measure_level(mels[0], mels[1]), *meter.result())
