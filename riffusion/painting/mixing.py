"""A painted stem into the song's own channels, samples and file formats. The song itself is never touched."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from riffusion import audio
from riffusion.pairs.tasks import Task
from riffusion.recordings.recording import Recording

BLOCK_SAMPLES = 1 << 16  # mixed at a time, or a few less
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
        """A gain per channel, float32 (channels, 1). Panning keeps the power; in the centre all channels have it whole.

        A mono stem was painted over the channels' sum, so it belongs into each of them alike.
        """
        gains = np.full(channels, 10 ** (self.gain_db / 20)) * (self.signs or 1)
        if channels == 2:
            angle = (self.pan + 1) * np.pi / 4
            gains *= np.sqrt(2) * np.array([np.cos(angle), np.sin(angle)])
        return gains.astype(np.float32)[:, None]


@dataclass(frozen=True)
class Layers:
    """A song, what was painted over it, and the seconds in which that is heard.

    `stem` comes in blocks, float32 (samples,), at a rate of its own in Hz; it can be read once.
    """

    song: Recording
    stem: Iterable[np.ndarray]
    stem_rate: int
    start: float = 0.0
    end: float = math.inf

    def blocks(self, bits: int, block_samples: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The song's samples, int64 (channels, samples) of `bits` bits, with the stem's, float32 (samples,).

        The stem is resampled to the song's rate, and exactly zero where it isn't to be heard or has ended.
        """
        rate = self.song.rate
        stem_blocks = audio.fixed_blocks(audio.resampled_blocks(self.stem, self.stem_rate, rate), block_samples)
        place = 0
        for original in audio.integer_blocks(self.song, bits, block_samples):
            samples = original.shape[1]
            mono = next(stem_blocks, np.zeros(0, dtype=np.float32))[:samples]
            seconds = np.arange(place, place + samples) / rate
            heard = (seconds >= self.start) & (seconds < self.end)
            yield original, np.pad(mono, (0, samples - len(mono))) * heard
            place += samples


@dataclass(frozen=True)
class Mixed:
    """What came of a mix: by how many dB the stem was turned down at the worst moment so that nothing clips, for how
    many seconds, and in how many samples it was cut. And in how many the result doesn't keep what `mix_song` promises
    of the input, which is a fault."""

    limited_db: float
    limited_seconds: float
    samples_cut: int
    backing_changed: int


def mix_song(
    layers: Layers,
    task: Task,
    placement: Placement,
    bits: int,
    results: dict[str, Path],
    tags: dict[str, str],
    listen: Callable[[np.ndarray], None] = lambda stem: None,
) -> Mixed:
    """Write `results`: "input" as it came, "painted" with the stem and "stem", which is what lies between the two.

    To the last of `bits` bits, painted - stem == input for "add", painted + stem == input for "remove", and
    painted == stem for "extract". `listen` is handed that stem as it is written, float32 (channels, samples) at a time.
    Raises UserError if a format can't hold the song or the disk is full.
    """
    song, cut, changed = layers.song, 0, 0
    limiter = Limiter(placement.gains(song.channels), task, bits, max(round(LIMITER_SECONDS * song.rate), 1))
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(audio.AudioWriter(path, song.rate, song.channels, bits, tags))
            for name, path in results.items()
        }
        for original, stem in limiter.limited(layers.blocks(bits, limiter.block_samples)):
            painted, fitting, given_up = task.apply_to_integers(original, audio.to_integers(stem, bits), bits)
            cut += given_up
            changed += int(np.count_nonzero(painted != task.apply(original, fitting)))
            for name, signal in {"input": original, "painted": painted, "stem": fitting}.items():
                files[name].write(signal)
            listen(audio.from_integers(fitting, bits))
    worst_db = abs(float(20 * np.log10(limiter.lowest)))
    return Mixed(worst_db, limiter.cells_below * limiter.cell / song.rate, cut, changed)


class Limiter:
    """Turns a stem down where a song with it would clip, smoothly: it looks a few cells ahead, 5 ms each.

    A cell's gain is at most what it and both its neighbours need; interpolated between the cells' middles it stays
    below what each of them needs.
    """

    def __init__(self, gains: np.ndarray, task: Task, bits: int, cell: int):
        self.gains, self.task, self.bits, self.cell = gains, task, bits, cell  # (channels, 1), and samples of a cell
        self.lowest, self.cells_below = 1.0, 0  # of all gains so far, and how many are below 1

    @property
    def block_samples(self) -> int:
        """Samples of a block of whole cells, several of them."""
        return max(BLOCK_SAMPLES // self.cell, 3) * self.cell

    def limited(self, blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of a song, (channels, samples), with the stem in its channels, float32 of the same shape, turned down.

        `blocks` are those of `Layers.blocks`, all of `block_samples` but the last one.
        """
        before, now, place = np.zeros(0), np.zeros(0), 0
        held: tuple[np.ndarray, np.ndarray] | None = None
        for block in itertools.chain(blocks, [None]):
            after = np.zeros(0) if block is None else self.needed(*block)
            if held is not None:
                original, mono = held
                yield original, self.gains * (mono * self.gain_curve(before[-2:], now, after[:2], place, len(mono)))
                place += len(mono)
            held, before, now = block, now, after

    def needed(self, original: np.ndarray, mono: np.ndarray) -> np.ndarray:
        """The most gain that each cell of a block can take, from 0 to 1: (cells,)."""
        stem = np.abs(self.gains * mono)
        sign = self.task.sign * np.sign(self.gains * mono)
        scale = 2.0 ** (self.bits - 1)
        room = 1 - 1 / scale - (sign * (original / scale) if self.task.keeps_input else 0)
        need = np.clip(room / np.maximum(stem, 1e-9), 0, 1).min(axis=0)
        return np.minimum.reduceat(need, np.arange(0, len(need), self.cell))

    def gain_curve(
        self, before: np.ndarray, needed: np.ndarray, after: np.ndarray, place: int, samples: int
    ) -> np.ndarray:
        """The gain of every sample of a block that begins at `place`, float32 (samples,).

        `needed` (cells,) are its own cells' gains; those of the two cells before and after it are beside them.
        """
        cells = np.concatenate([before, needed, after])
        limits = np.maximum(sliding_window_view(np.pad(cells, 1, mode="edge"), 3).min(axis=1), LIMITER_FLOOR)
        own = limits[len(before) :][: len(needed)]
        self.lowest = min(self.lowest, float(own.min()))
        self.cells_below += int(np.count_nonzero(own < 1))
        middles = (place // self.cell - len(before) + np.arange(len(cells)) + 0.5) * self.cell
        return np.interp(np.arange(place, place + samples), middles, limits).astype(np.float32)
