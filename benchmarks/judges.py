"""Which stem is it, does it fit the music, and is it a copy? Judges that know nothing of any model."""

from collections.abc import Callable

import librosa
import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from riffusion.image import grey_levels
from riffusion.pairs.features import VOICED, pitch_detector

BANDS = 64  # of the pictures that the judges look at
SAME_NOTE_CENTS = 50
CHORD_SHARE = 0.5  # of the loudest pitch class in half a second: notes as loud belong to the chord
CHORD_SECONDS = 0.5
MAJOR = (0, 2, 4, 5, 7, 9, 11)
# How well pitch classes fit a major and a minor key: Krumhansl and Kessler 1982.
KEY_PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
RELATIVE_MAJOR = {"major": 0, "minor": 3}  # semitones up to the major key of the same notes

StemJudge = Callable[[list[Image.Image]], list[str]]


def darkness(picture: Image.Image) -> np.ndarray:
    """How loud a picture is, low bands last, averaged to (BANDS, frames); 0 is silence and 1 black."""
    dark = 1 - grey_levels(picture).mean(axis=0).astype(np.float64) / 255
    height = dark.shape[0] // BANDS * BANDS
    return dark[:height].reshape(BANDS, -1, dark.shape[1]).mean(axis=1)


def stem_features(picture: Image.Image) -> np.ndarray:
    """What tells one kind of stem from another, whatever its level: (3 * BANDS,)."""
    dark = darkness(picture)
    dark = dark / max(float(dark.mean()), 1e-6)
    return np.concatenate([dark.mean(axis=1), dark.std(axis=1), np.abs(np.diff(dark, axis=1)).mean(axis=1)])


def train_stem_judge(pictures: list[Image.Image], stems: list[str]) -> StemJudge:
    """A classifier that names stems by `stem_features` of their pictures, from true stems of training songs."""
    judge = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced"))
    judge.fit(np.stack([stem_features(picture) for picture in pictures]), stems)
    return lambda asked: list(judge.predict(np.stack([stem_features(picture) for picture in asked])))


def melody(stem: np.ndarray, sample_rate: int) -> np.ndarray:
    """Pitch of a stem (samples,) in semitones (MIDI numbers, with fractions) for each frame; nan where unvoiced."""
    track = pitch_detector().detect(stem, sample_rate)
    voiced = track.confidence >= VOICED
    return np.where(voiced, librosa.hz_to_midi(np.where(voiced, track.pitch_hz, 440.0)), np.nan)


def confidence(stem: np.ndarray, sample_rate: int) -> float:
    """Mean confidence of the pitch tracker in a stem (samples,), from 0 to 1."""
    return float(pitch_detector().detect(stem, sample_rate).confidence.mean())


class Harmony:
    """The notes of a backing (samples,): its scale, and the chord in every half second."""

    def __init__(self, backing: np.ndarray, sample_rate: int):
        self.tuning = float(librosa.estimate_tuning(y=backing, sr=sample_rate))  # in semitones
        chroma = librosa.feature.chroma_cqt(y=backing, sr=sample_rate, tuning=self.tuning)
        self.seconds = len(backing) / sample_rate
        chords = max(1, round(self.seconds / CHORD_SECONDS))
        parts = np.array_split(chroma, chords, axis=1)
        self.chords = np.stack([loud >= CHORD_SHARE * loud.max() for loud in (part.mean(axis=1) for part in parts)])
        fits = {
            (mode, tonic): np.corrcoef(np.roll(profile, tonic), chroma.mean(axis=1))[0, 1]
            for mode, profile in KEY_PROFILES.items()
            for tonic in range(12)
        }
        mode, tonic = max(fits, key=fits.__getitem__)
        self.scale = np.isin(np.arange(12), [(tonic + RELATIVE_MAJOR[mode] + step) % 12 for step in MAJOR])

    def fit(self, notes: np.ndarray) -> tuple[float, float]:
        """Share of a melody's voiced frames on notes of the scale, and on notes of the chord; nan without any.

        A frame is on the note of the twelve that is nearest, which is within `SAME_NOTE_CENTS`.
        """
        voiced = np.flatnonzero(np.isfinite(notes))
        if not len(voiced):
            return np.nan, np.nan
        classes = np.rint(notes[voiced] - self.tuning).astype(int) % 12
        chord = (voiced * len(self.chords) / len(notes)).astype(int)
        return float(self.scale[classes].mean()), float(self.chords[chord, classes].mean())


def sung_the_same(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the frames voiced in both melodies whose pitches are within `SAME_NOTE_CENTS`; nan without any."""
    frames = min(len(one), len(other))
    apart = np.abs(one[:frames] - other[:frames])
    apart = apart[np.isfinite(apart)]
    return float((apart <= SAME_NOTE_CENTS / 100).mean()) if len(apart) else np.nan


def thumbnail(picture: Image.Image) -> np.ndarray:
    """A picture as a unit vector (BANDS, BANDS) of mean 0, to compare with others."""
    dark = darkness(picture)
    columns = dark.shape[1] // BANDS * BANDS
    small = dark[:, :columns].reshape(BANDS, BANDS, -1).mean(axis=2)
    small = small - small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-9)


def likeness(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Correlation of thumbnails (n, BANDS, BANDS) with others (m, ...), at the best shift in time: (n, m)."""
    spectra = np.fft.rfft(others, axis=2)
    best = []
    for one in np.fft.rfft(ones, axis=2):
        shifted = np.fft.irfft((one.conj() * spectra).sum(axis=1), n=BANDS, axis=1)
        best.append(shifted.max(axis=1))
    return np.stack(best)
