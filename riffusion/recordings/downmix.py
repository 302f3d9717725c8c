"""A song's channels as the one that the model is shown: their mean, unless what is heard gets lost in it.

Channels that are each other's negative cancel in their mean, and an offset or a rumble that nobody hears sets the
scale of a picture. Both are found by looking through the song once, in cells of half a second. Only where they are
found the channels are added up otherwise, and what lies below hearing is taken out of the sum; of any other song the
mean is taken, sample for sample. The song itself is never changed.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soxr

from riffusion.util.errors import UserError

CELL_SECONDS = 0.5  # looked at as a whole
BANDS_HZ = (16, 250, 2500, 10000)  # edges: below nothing is heard, above a picture shows nothing
RUMBLE_RATE = 40  # Hz: at this rate a signal holds what is below 20 Hz, which is taken out
LEAST_RATE = 1000  # Hz: a file with fewer samples a second is no sound, and has no part that isn't heard

QUIET = 1e-4  # power, as a share of the song's mean, under which a cell has nothing to say: -40 dB
MINOR = 3e-3  # power, as a share of the cell's, of a band that may get lost: -25 dB
LEAST_LEVEL = 0.45  # power of the sum over the channels' own: 1 if nothing is alike in them, less if they cancel
LEAST_BAND_LEVEL = 0.1  # the same of a band alone: synths and cymbals are often wider than the music as a whole
LEAST_KEPT = 0.75  # share of the power that must be in channels which are heard in the sum
LEAST_SHARE = 0.25  # a channel is heard in the sum if its likeness to it is this much of what it would be there alone
MOST_UNHEARD = 1.0  # power of what is not heard over the most that as many Hz of what is heard have
LEAST_CELLS = 2  # in a row that must cancel, or be lifted: half a second is an effect, not the way a song was made

MOST_PEAK = 16.0  # +24 dB over full scale: no mix of floats gets there
INTEGER_BITS = (16, 24, 32)  # that floats may hold unscaled
FEW = 1e-3  # the share of the samples beyond `MOST_PEAK` up to which they are errors, and not the scale of the file


Mix = Callable[[np.ndarray, int], np.ndarray]  # makes (samples,) of a block (channels, samples) and its rate in Hz


def mean_of_channels(block: np.ndarray, rate: int) -> np.ndarray:
    """(channels, samples), of whatever rate, to (samples,)."""
    if len(block) <= 2:  # the same numbers, where numpy's mean goes through the channels of every sample
        return (block[0] + block[1]) / 2 if len(block) == 2 else block[0]
    return block.mean(axis=0)


@dataclass(frozen=True, eq=False)
class Downmix:
    """How the channels of one file become one signal, and how loud they are beside it. The default is their mean.

    `weights` (places, channels) belong to the samples `middles` (places,), and go over into each other between them;
    `offset` (channels,) is taken away first, and what is below hearing after it.
    """

    middles: np.ndarray | None = None
    weights: np.ndarray | None = None
    offset: np.ndarray | None = None
    signs: tuple[int, ...] = ()  # a channel: -1 where it holds the negative of the sum; empty for the mean
    loudness: np.ndarray = field(default_factory=lambda: np.ones(1))  # (cells,): the channels' rms over the sum's
    cell_seconds: float = CELL_SECONDS
    power: float = 0.0  # mean square of what is heard, over all channels and samples

    @property
    def cancels(self) -> bool:
        """Whether the mean would lose what is heard in the channels."""
        return self.weights is not None

    @property
    def lifted(self) -> bool:
        """Whether an offset or a rumble would count in the picture."""
        return self.offset is not None

    def mixer(self) -> Mix:
        """What mixes a file's blocks down, one after another from its beginning."""
        if not (self.cancels or self.lifted):
            return mean_of_channels
        place = 0

        def mix(block: np.ndarray, rate: int) -> np.ndarray:
            nonlocal place
            there = np.arange(place, place + block.shape[1])
            place += block.shape[1]
            centred = block if self.offset is None else block - self.offset[:, None].astype(np.float32)
            if self.weights is None or self.middles is None:
                return centred.mean(axis=0)
            weights = [np.interp(there, self.middles, weight) for weight in self.weights.T]
            return (centred * np.stack(weights).astype(np.float32)).sum(axis=0)

        return mix

    def loudness_at(self, seconds: np.ndarray) -> np.ndarray:
        """The channels' rms over that of the sum, around some places of the song."""
        cells = (seconds / self.cell_seconds).astype(int)
        return self.loudness[np.minimum(cells, len(self.loudness) - 1)]


def without_rumble(blocks: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """A mono signal, block by block, without what is below 20 Hz. What is heard keeps its phase.

    The part below is what is left of the signal at a rate that holds nothing else, soxr's filters being symmetrical.
    """
    down = soxr.ResampleStream(rate, RUMBLE_RATE, 1, dtype="float32", quality="HQ")
    up = soxr.ResampleStream(RUMBLE_RATE, rate, 1, dtype="float32", quality="HQ")
    signal = rumble = np.zeros(0, dtype=np.float32)
    for block in blocks:
        signal = np.concatenate([signal, block])
        rumble = np.concatenate([rumble, up.resample_chunk(down.resample_chunk(block))])
        ready = min(len(signal), len(rumble))
        yield signal[:ready] - rumble[:ready]
        signal, rumble = signal[ready:], rumble[ready:]
    silence = np.zeros(rate, dtype=np.float32)  # resampling rounds lengths
    rumble = np.concatenate([rumble, up.resample_chunk(down.resample_chunk(silence, last=True), last=True)])
    yield signal - rumble[: len(signal)]


class Survey:
    """Looks through a file's blocks for its `Downmix`, and for samples that can't be meant.

    `rfft` is numpy's, or another that is quicker and rounds otherwise.
    """

    def __init__(self, rfft: Callable[[np.ndarray], np.ndarray] = np.fft.rfft) -> None:
        self.rfft = rfft
        self.rate = 1  # Hz
        self.rest: np.ndarray | None = None  # (channels, less than a cell)
        self.cells: list[tuple[np.ndarray, ...]] = []  # of each block: what `look` returns
        self.samples = self.beyond = self.peak_place = 0
        self.peak = self.energy = 0.0  # the latter of the mean channel

    @property
    def cell(self) -> int:
        """Samples of a cell."""
        return max(round(CELL_SECONDS * self.rate), 1)

    def add(self, block: np.ndarray, rate: int) -> None:
        """Look at the next samples, float32 (channels, samples), finite."""
        self.rate = rate
        top = float(max(block.max(initial=0), -block.min(initial=0)))
        if top > max(self.peak, MOST_PEAK):
            self.peak_place = self.samples + int(np.abs(block).max(axis=0).argmax())
        self.peak = max(self.peak, top)
        if top > MOST_PEAK:
            self.beyond += int(np.count_nonzero((np.abs(block) > MOST_PEAK).any(axis=0)))
        self.samples += block.shape[1]
        if self.peak > MOST_PEAK:
            return  # it will be refused, and the powers of such samples overflow
        flat = block.ravel(order="K")
        self.energy += float(np.vdot(flat, flat)) / len(block)
        block = block if self.rest is None else np.concatenate([self.rest, block], axis=1)
        whole = block.shape[1] // self.cell * self.cell
        if whole:
            self.cells.append(self.look(block[:, :whole]))
        self.rest = block[:, whole:].copy()

    def mix(self, block: np.ndarray, rate: int) -> np.ndarray:
        """The mean of the channels, looked at on the way."""
        self.add(block, rate)
        return mean_of_channels(block, rate)

    def look(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of whole cells, the channels' covariances in each band, (cells, bands, channels, channels), the power of what
        isn't heard over that of the loudest frequencies, (cells,), and the channels' means, (cells, channels)."""
        cells = block.reshape(len(block), -1, self.cell).swapaxes(0, 1)
        means = cells.mean(axis=-1, dtype=np.float64)
        window = np.minimum(8 * np.hanning(self.cell), 1).astype(np.float32)  # flat but for its ends
        edges = np.fft.rfftfreq(self.cell, 1 / self.rate).searchsorted(BANDS_HZ) * (self.rate >= LEAST_RATE)
        edges[-1] = max(edges[-1], edges[0] + 1)
        spectrum = self.rfft((cells - means[..., None].astype(np.float32)) * window)[..., : edges[-1]]
        spectrum *= np.sqrt(2 / (self.cell * float((window**2).sum())))
        bands = [spectrum[..., low:high] for low, high in itertools.pairwise(edges)]
        covariances = [(band @ band.conj().swapaxes(1, 2)).real.astype(np.float64) for band in bands]
        powers = (spectrum.real**2 + spectrum.imag**2).sum(axis=1)
        strongest = np.add.reduceat(powers, range(edges[0], edges[-1], max(edges[0], 1)), axis=1).max(axis=1)
        unheard = powers[:, : edges[0]].sum(axis=1) + (means**2).sum(axis=1) * bool(edges[0])
        return np.stack(covariances, axis=1), unheard / np.maximum(strongest, 1e-20), means

    def finish(self, path: Path) -> Downmix:
        """What all blocks of a file together say. Raises UserError, with its path, if its samples can't be meant."""
        self.check(path)
        if not self.cells and self.rest is not None and self.rest.shape[1]:
            missing = self.cell - self.rest.shape[1]
            self.cells.append(self.look(np.pad(self.rest, ((0, 0), (0, missing)))))
        if not self.cells:
            return Downmix()
        bands, unheard, means = (np.concatenate(parts) for parts in zip(*self.cells, strict=True))
        whole = bands.sum(axis=1)
        channels, powers = whole.shape[1], np.trace(whole, axis1=1, axis2=2)
        says = powers > QUIET * powers.mean()
        lifted = unheard > MOST_UNHEARD
        offset = means.mean(axis=0) if in_a_row(lifted[says] if says.any() else lifted).any() else None
        weights = cell_weights(bands, says)
        summed = np.einsum("ci,cij,cj->c", weights, whole, weights)
        beside = np.divide(powers / channels, summed, out=np.ones_like(summed), where=summed > QUIET * powers)
        measured = {
            "loudness": np.sqrt(beside),
            "cell_seconds": self.cell / self.rate,
            "power": float(powers.mean() / channels),
        }
        if (weights == 1 / channels).all():
            return Downmix(offset=offset, **measured)
        lies = np.einsum("cij,cj->i", whole, weights)
        middles = (np.flatnonzero(says) + 0.5) * self.cell
        return Downmix(middles, weights[says], offset, tuple(-1 if lie < 0 else 1 for lie in lies), **measured)

    def check(self, path: Path) -> None:
        """Raise UserError if samples are so far beyond full scale that they can't be meant."""
        beyond, place = f"{self.beyond} of {self.samples}", f"{self.peak_place / self.rate:.3f} s"
        if self.peak > MOST_PEAK and self.beyond <= max(FEW * self.samples, 1):
            raise UserError(
                f"{path}: {beyond} samples are far beyond full scale, up to {self.peak:g} at {place}; repair it"
            )
        if self.peak > MOST_PEAK or self.energy > self.samples:
            bits = next((bits for bits in INTEGER_BITS if 2 ** (bits - 1) >= self.peak), INTEGER_BITS[-1])
            way_out = f"divide them by {2 ** (bits - 1)} first, if they are integers of {bits} bits"
            raise UserError(f"{path}: samples are up to {self.peak:g}, where full scale is 1: {way_out}")


def cell_weights(bands: np.ndarray, says: np.ndarray) -> np.ndarray:
    """The weights of the channels (cells, channels) from their covariances (cells, bands, channels, channels).

    They are 1 / channels unless that loses something in several cells in a row, of those that say something. There
    they are the same all over the song, as far as that keeps everything.
    """
    cells, channels = len(bands), bands.shape[-1]
    weights = np.full((cells, channels), 1 / channels)
    where = np.flatnonzero(says)
    cancels = in_a_row(~is_heard(bands[where], weights[where]))
    mended = where[cancels]
    if len(mended):
        weights[mended] = mended_weights(bands[mended])
        for cell in mended[~is_heard(bands[mended], weights[mended])]:
            weights[cell] = mended_weights(bands[[cell]])
    return weights


def mended_weights(bands: np.ndarray) -> np.ndarray:
    """Weights (channels,) with which the least gets lost: channels with their signs turned, or one channel alone.

    `bands` are covariances (cells, bands, channels, channels). Of several weights that keep as much it is the first.
    """
    together, channels = bands.sum(axis=0), bands.shape[-1]
    whole = together.sum(axis=0)
    choices = [turned_signs(part) / channels for part in (whole, *together)]
    choices += [np.eye(channels)[channel] for channel in np.argsort(-np.diag(whole), kind="stable")]
    fitting = [is_heard(bands, np.tile(choice, (len(bands), 1))).sum() for choice in choices]
    return choices[int(np.argmax(fitting))] if max(fitting) else choices[-channels]


def turned_signs(covariance: np.ndarray) -> np.ndarray:
    """Signs (channels,) with which the channels add up to the most power, as far as turning one at a time gets.

    Of several that can be turned it is the last, so that the first ones keep their sign from cell to cell.
    """
    signs = np.ones(len(covariance))
    others = covariance * (1 - np.eye(len(covariance)))
    for _ in signs:
        gains = -signs * (others @ signs)  # of turning a channel
        if gains.max() <= 1e-9 * np.trace(covariance):
            break
        signs[np.flatnonzero(gains >= gains.max() / 2)[-1]] *= -1
    return signs


def is_heard(bands: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Whether the channels' sum by weights (cells, channels) is as loud as they are, and no loud one is lost in it.

    Asked of covariances (cells, bands, channels, channels) as a whole, and of every band, unless there is next to
    nothing in it.
    """
    whole = bands.sum(axis=1, keepdims=True)
    power = np.trace(whole, axis1=2, axis2=3)
    in_bands = sum_is_heard(bands, weights, LEAST_BAND_LEVEL) | (np.trace(bands, axis1=2, axis2=3) <= MINOR * power)
    return sum_is_heard(whole, weights, LEAST_LEVEL)[:, 0] & in_bands.all(axis=1)


def sum_is_heard(bands: np.ndarray, weights: np.ndarray, least_level: float) -> np.ndarray:
    """`is_heard` of every band by itself: bool (cells, bands)."""
    channels, own = bands.shape[-1], np.diagonal(bands, axis1=2, axis2=3)
    power = own.sum(axis=2)
    likeness = channels * np.einsum("cbij,cj->cbi", bands, weights)
    level = channels * np.einsum("cbi,ci->cb", likeness, weights)
    kept = (own * (np.abs(likeness) >= LEAST_SHARE * own)).sum(axis=2)
    return (level >= least_level * power) & (kept >= LEAST_KEPT * power)


def in_a_row(flags: np.ndarray) -> np.ndarray:
    """Flags without those that aren't one of `LEAST_CELLS` in a row, or of all flags where there are fewer."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    kept = np.zeros_like(flags)
    for first, last in edges.reshape(-1, 2):
        kept[first:last] = last - first >= min(LEAST_CELLS, len(flags))
    return kept
