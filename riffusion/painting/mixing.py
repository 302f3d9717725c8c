"""A painted stem into the song's own channels, samples and file formats. The song itself is never touched."""

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from scipy.ndimage import minimum_filter1d

from riffusion import audio
from riffusion.pairs.tasks import Task
from riffusion.recordings.recording import Recording
from riffusion.util.errors import UserError

BLOCK_SAMPLES = 1 << 16  # mixed at a time
LIMITER_SECONDS = 0.005  # from one gain to the next
LIMITER_DB = 3.0  # at most; what would clip even so is cut, sample by sample
LIMITER_FLOOR = 10 ** (-LIMITER_DB / 20)


@dataclass(frozen=True)
class Placement:
    """How loud a mono stem comes into a song, and where: `pan` is -1 (left) to 1 (right), of two channels.

    `signs` turns the stem in channels that hold the negative of what it was taken from: 1 or -1 a channel.
    """

    gain_db: float = 0.0
    pan: float = 0.0
    signs: tuple[int, ...] = ()

    def gains(self, channels: int) -> np.ndarray:
        """A gain a channel, float32 (channels, 1). Panning keeps the power; in the centre every channel has it whole.

        A mono stem was painted over the channels' sum, so it belongs into each of them alike.
        """
        gains = np.full(channels, 10 ** (self.gain_db / 20)) * (self.signs or 1)
        if channels == 2:
            angle = (self.pan + 1) * np.pi / 4
            gains *= np.sqrt(2) * np.array([np.cos(angle), np.sin(angle)])
        return gains.astype(np.float32)[:, None]


@dataclass(frozen=True)
class Limited:
    """What a stem gave up so that nothing clips: dB at the worst moment, seconds below full level, samples cut."""

    most_db: float
    seconds: float
    samples: int


@dataclass(frozen=True)
class Layers:
    """A song and what was painted over it, a recording or a file and a mono wav, and the seconds in which the stem is
    heard."""

    song: Path | Recording
    stem: Path
    start: float = 0.0
    end: float = math.inf

    def blocks(self, bits: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The song's samples, int64 (channels, samples) of `bits` bits, with the stem's, float32 (samples,).

        The stem is resampled to the song's rate, and exactly zero where it isn't to be heard or has ended.
        """
        with audio.open_audio(self.song) as song:
            stem_blocks = audio.fixed_blocks(audio.mono_blocks(self.stem, song.rate), BLOCK_SAMPLES)
            place = 0
            for original in audio.integer_blocks(song, bits, BLOCK_SAMPLES):
                samples = original.shape[1]
                mono = next(stem_blocks, np.zeros(0, dtype=np.float32))[:samples]
                seconds = np.arange(place, place + samples) / song.rate
                heard = (seconds >= self.start) & (seconds < self.end)
                yield original, np.pad(mono, (0, samples - len(mono))) * heard
                place += samples


def mix_song(
    layers: Layers, task: Task, placement: Placement, bits: int, results: dict[str, Path], tags: dict[str, str]
) -> Limited:
    """Write `results`: "input" as it came, "painted" with the stem and "stem", which is what lies between the two.

    To the last of `bits` bits, painted - stem == input for "add", painted + stem == input for "remove", and
    painted == stem for "extract". Raises UserError if a format can't hold the song or the disk is full.
    """
    with audio.open_audio(layers.song) as song:
        rate, channels = song.rate, song.channels
    gains = placement.gains(channels)
    cell = max(round(LIMITER_SECONDS * rate), 1)
    limits = limiter_gains(layers.blocks(bits), gains, task, bits, cell)
    cut = place = 0
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(audio.open_output(path, rate, channels, bits, tags))
            for name, path in results.items()
        }
        for original, mono in layers.blocks(bits):
            there = np.arange(place, place + len(mono))
            limited = mono * np.interp(there, (np.arange(len(limits)) + 0.5) * cell, limits).astype(np.float32)
            stem = audio.to_integers(gains * limited, bits)
            painted, fitting, given_up = task.apply_to_integers(original, stem, bits)
            cut += given_up
            place += len(mono)
            for name, signal in {"input": original, "painted": painted, "stem": fitting}.items():
                audio.write_integers(files[name], signal, bits)
    for path in results.values():
        audio.finish_output(path, tags)
        if soundfile.info(os.fsencode(path)).frames < place:  # libsndfile doesn't always tell that a disk is full
            raise UserError(f"{path}: could not be written whole; is the disk full?")
    below = limits < 1
    return Limited(abs(float(20 * np.log10(limits.min(initial=1)))), float(below.sum() * cell / rate), cut)


def backing_changes(results: dict[str, Path], task: Task, bits: int) -> int:
    """In how many samples of the written files what `mix_song` promises of the input doesn't hold."""
    changes = 0
    with ExitStack() as stack:
        files = {name: stack.enter_context(audio.open_audio(path)) for name, path in results.items()}
        blocks = {name: audio.integer_blocks(file, bits, BLOCK_SAMPLES) for name, file in files.items()}
        for original, painted, stem in zip(blocks["input"], blocks["painted"], blocks["stem"], strict=True):
            changes += int(np.count_nonzero(painted != task.apply(original, stem)))
    return changes


def limiter_gains(
    blocks: Iterator[tuple[np.ndarray, np.ndarray]], gains: np.ndarray, task: Task, bits: int, cell: int
) -> np.ndarray:
    """The stem's gain in every cell of `cell` samples, float (cells,): 1 unless the sum would clip there or beside.

    Interpolated between the cells' middles it stays below what each of them needs.
    """
    needed, rest = [], np.ones(0)
    scale = 2.0 ** (bits - 1)
    for original, mono in blocks:
        stem = np.abs(gains * mono)
        sign = task.sign * np.sign(gains * mono)
        room = 1 - 1 / scale - (sign * (original / scale) if task.keeps_input else 0)
        need = np.clip(room / np.maximum(stem, 1e-9), 0, 1).min(axis=0)
        rest = np.concatenate([rest, need])
        whole = len(rest) // cell * cell
        needed.append(rest[:whole].reshape(-1, cell).min(axis=1))
        rest = rest[whole:]
    needed.append(rest.min(keepdims=True) if len(rest) else rest)
    lowest = np.concatenate(needed)
    return np.maximum(minimum_filter1d(lowest, 3, mode="nearest"), LIMITER_FLOOR) if len(lowest) else lowest
