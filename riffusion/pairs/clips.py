"""Clips cut from a song's stems: what sounds in them, how loud, and what is heard in each stem."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from riffusion.audio import decibels
from riffusion.pairs.features import SILENCE_DB, Features, measure_onsets, measure_pitch
from riffusion.pairs.stems import MonoStems
from riffusion.pairs.tasks import Edit, Stems
from riffusion.spectrogram import SpectrogramParams

SOUNDING = 1e-4  # least power of a stem that sounds, as a share of the clip's loudest: -40 dB
FEW_STEMS = 4  # MUSDB18's: a clip of more is made to cost no more than one of so many
SILENT_POWER = 1e-8  # a clip whose loudest stem is under -80 dBFS is silent
BLOCK_SAMPLES = 256


class ReadStems(Mapping[str, np.ndarray]):
    """A clip's stems by name, float32 (samples,), each read when it is first asked for: many clips are given up."""

    def __init__(self, names: Iterable[str], read: Callable[[str], np.ndarray]):
        self.signals: dict[str, np.ndarray | None] = dict.fromkeys(names)
        self.read = read

    def __getitem__(self, name: str) -> np.ndarray:
        signal = self.signals[name]
        if signal is None:
            signal = self.signals[name] = self.read(name)
        return signal

    def __iter__(self) -> Iterator[str]:
        return iter(self.signals)

    def __len__(self) -> int:
        return len(self.signals)


@dataclass(frozen=True)
class Clip:
    """One clip at one pitch: float32 (samples,) of every stem, and their mean powers in the whole song."""

    number: int
    start_seconds: float  # in the song as it was
    semitones: int
    sample_rate: int
    stems: Mapping[str, np.ndarray]
    song_powers: dict[str, float]

    @functools.cached_property
    def products(self) -> np.ndarray:
        """Mean product of the samples of every two stems, float64 (stems, stems), from which any mix's power follows.

        Many stems are multiplied in small blocks: for large products BLAS wakes threads, which spin while they wait.
        """
        signals = np.stack(list(self.stems.values()))
        count, samples = signals.shape
        size = samples if count <= FEW_STEMS else BLOCK_SAMPLES
        blocks = np.pad(signals, ((0, 0), (0, -samples % size))).reshape(count, -1, size).swapaxes(0, 1)
        blocks = blocks.astype(np.float64)
        return (blocks @ blocks.swapaxes(1, 2)).sum(axis=0) / samples

    def power(self, names: Iterable[str]) -> float:
        """Mean square of the sum of some stems."""
        among = set(names)
        heard = [place for place, name in enumerate(self.stems) if name in among]
        return float(np.cumsum(self.products[heard][:, heard])[-1]) if heard else 0.0

    def audible(self) -> Stems:
        """The stems that can be heard."""
        powers = {name: self.power([name]) for name in self.stems}
        loudest = max(powers.values())
        return frozenset(name for name in powers if loudest > SILENT_POWER and powers[name] >= SOUNDING * loudest)

    def may_be_loud(self, names: Stems, min_power_prop: float) -> bool:
        """Whether any of some stems may be among the `loud` ones, which takes no other stem to tell."""
        signals = ((self.stems[name], self.song_powers[name]) for name in names)
        least = 0.99 * min_power_prop  # which forgives float32
        return any(np.vdot(signal, signal) >= least * power * len(signal) for signal, power in signals)

    def loud(self, min_power_prop: float) -> Stems:
        """The stems whose power here is at least `min_power_prop` of their power in the whole song."""
        return frozenset(name for name in self.stems if self.power([name]) >= min_power_prop * self.song_powers[name])

    def level_db(self, edit: Edit, backing: Stems) -> float:
        """Level of an edit's stem over the rest of what is heard with it, in dB; `SILENCE_DB` at least."""
        own, rest = self.power(edit.painted()), self.power(backing - edit.painted())
        return max(SILENCE_DB, decibels(own, rest)) if edit.stem else SILENCE_DB

    def mix(self, names: Iterable[str]) -> np.ndarray:
        """Sum of some stems, float32 (samples,); silence for none."""
        silence = np.zeros(len(next(iter(self.stems.values()))), dtype=np.float32)
        return sum((self.stems[name] for name in sorted(names)), start=silence)

    def features(self, edit: Edit, backing: Stems, mel: np.ndarray | None) -> Features:
        """What is heard in an edit's stem: pitch and notes of vocals, onsets of all others.

        `mel` are the stem's mel amplitudes (bands, frames), which vocals don't need.
        """
        if edit.stem == "vocals":
            heard = self.vocal_features
        elif edit.stem and mel is not None:
            seconds = len(self.stems[edit.stem]) / self.sample_rate
            heard = measure_onsets(mel, seconds / (mel.shape[1] - 1))
        else:
            heard = Features()
        return replace(heard, level_db=self.level_db(edit, backing))

    @functools.cached_property
    def vocal_features(self) -> Features:
        """Pitch and notes of the vocals, which take longest to measure."""
        return measure_pitch(self.stems["vocals"], self.sample_rate)


def clip_starts(samples: int, clip_samples: int, overlap: float = 0.0) -> range:
    """First samples of the clips that fit into a song; `overlap` is a share of a clip, 0 <= overlap < 1."""
    return range(0, samples - clip_samples + 1, max(1, round(clip_samples * (1 - overlap))))


def cut_clips(song: MonoStems, params: SpectrogramParams, overlap: float, semitones: int) -> Iterator[Clip]:
    """All clips of a song that is played 2 ** (semitones / 12) as fast."""
    samples = params.clip_samples
    original_samples = round(samples * 2 ** (semitones / 12))  # that a clip is made from
    for number, start in enumerate(clip_starts(song.samples, original_samples, overlap)):
        yield Clip(
            number,
            start / song.sample_rate,
            semitones,
            song.sample_rate,
            ReadStems(song.files, partial(song.read_shifted, start=start, samples=samples, semitones=semitones)),
            song.powers,
        )
