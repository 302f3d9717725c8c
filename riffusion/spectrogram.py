"""Waveform to mel amplitudes and back, with Riffusion V1's settings (github.com/riffusion/riffusion-hobby)."""

import functools
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import Tensor

from riffusion.spectrogram_params import SpectrogramParams

CPU_BLOCK_FRAMES, GPU_BLOCK_FRAMES = 64, 1024  # transformed at a time: on a CPU what fits into its cache
WIDE_BANDS = (0.8, 1.4)  # bins from one mel band to the next: where bands stop telling bins apart


@functools.lru_cache(maxsize=4)
def mel_filters(params: SpectrogramParams) -> np.ndarray:
    """HTK mel filters without norm, float32 (num_frequencies, n_fft // 2 + 1), as torchaudio and librosa define them.

    They are written down here because the libraries that have them take a second to import.
    """
    lowest, highest = (2595 * np.log10(1 + edge / 700) for edge in (params.min_frequency, params.max_frequency))
    corners = 700 * (np.power(10, np.linspace(lowest, highest, params.num_frequencies + 2) / 2595) - 1)  # Hz
    bins = np.linspace(0, params.sample_rate // 2, params.n_fft // 2 + 1)  # Hz
    above, widths = corners[:, None] - bins, np.diff(corners)[:, None]
    triangles = np.minimum(-above[:-2] / widths[:-1], above[2:] / widths[1:])
    return np.maximum(triangles, 0).astype(np.float32)


@functools.lru_cache(maxsize=4)
def mel_inverse(params: SpectrogramParams) -> np.ndarray:
    """Right pseudo-inverse of the mel filters, float32 (n_fft // 2 + 1, num_frequencies)."""
    filters = mel_filters(params).astype(np.float64)
    products = filters @ filters.T
    products += 1e-9 * np.trace(products) / len(products) * np.eye(len(products))  # a band may hold no bin at all
    return np.linalg.solve(products, filters).T.astype(np.float32)


def at_unpadded_bins(columns: np.ndarray, params: SpectrogramParams) -> np.ndarray:
    """Columns for the bins of a padded frame (..., n_fft // 2 + 1) at those of an unpadded one, win_length // 2 + 1.

    The padding only interpolates the spectrum, so the unpadded bins lie among the padded ones.
    """
    places = np.arange(params.win_length // 2 + 1) * params.n_fft / params.win_length
    low = np.minimum(places.astype(int), columns.shape[-1] - 1)
    high = np.minimum(low + 1, columns.shape[-1] - 1)
    share = (places - low).astype(np.float32)
    return np.ascontiguousarray(columns[..., low] * (1 - share) + columns[..., high] * share)


def band_spacing(params: SpectrogramParams, frequency: np.ndarray) -> np.ndarray:
    """Hz from one HTK mel band to the next at a frequency in Hz."""
    low, high = (2595 * np.log10(1 + edge / 700) for edge in (params.min_frequency, params.max_frequency))
    return (700 + frequency) * np.log(10) / 2595 * (high - low) / (params.num_frequencies + 1)


@dataclass(frozen=True, eq=False)
class Inversion:
    """What leads from mel amplitudes back to the `bins` of `SpectrogramConverter.stft`; sparse but for the last two."""

    bins: int
    band_filters: Tensor  # (num_frequencies, bins): the mel filters there
    spreading: Tensor  # (bins, num_frequencies), each row adding up to 1
    inverse: Tensor  # (low bins, num_frequencies): the least-squares one, where bands tell bins apart
    wide_share: Tensor  # (bins, 1): 0 there, 1 where bands are much wider than bins


def inversion_of(params: SpectrogramParams, device: torch.device) -> Inversion:
    """The way back from mel amplitudes for signals at these params' rate."""
    filters = torch.from_numpy(at_unpadded_bins(mel_filters(params), params))
    bins = int(filters.any(dim=0).nonzero().max()) + 1
    filters = filters[:, :bins]
    bin_width = params.sample_rate / params.win_length
    spacing = band_spacing(params, bin_width * np.arange(bins)) / bin_width
    low, high = WIDE_BANDS
    wide = np.clip((spacing - low) / (high - low), 0, 1).astype(np.float32)
    inverse = at_unpadded_bins(mel_inverse(params).T, params).T[: np.count_nonzero(wide < 1)]
    return Inversion(
        bins=bins,
        band_filters=(filters * (params.n_fft / params.win_length)).to_sparse().to(device),
        spreading=(filters / filters.sum(dim=0).clamp(min=1e-9)).T.to_sparse().to(device),
        inverse=torch.from_numpy(inverse).to(device),
        wide_share=torch.from_numpy(wide)[:, None].to(device),
    )


class SpectrogramConverter:
    """Waveform to mel amplitudes and back. Waveforms are float32 in [-1, 1], shaped (..., samples)."""

    def __init__(self, params: SpectrogramParams | None = None, device: str = "cpu"):
        self.params = params or SpectrogramParams()
        self.device = torch.device(device)
        # On a CPU, where soxr resamples, signals are analysed at a lower rate, which halves the work.
        self.analysis = self.params.at_analysis_rate() if self.device.type == "cpu" else self.params
        self.window = torch.hann_window(self.analysis.win_length, device=self.device)
        filters = torch.from_numpy(mel_filters(self.analysis))
        self.top_bin = int(filters.any(dim=0).nonzero().max()) + 1  # no band hears anything above
        self.filters = filters[:, : self.top_bin].to_sparse().to(self.device)  # 0.2 % of the entries are not zero

    @functools.cached_property
    def inversion(self) -> "Inversion":
        """What leads back from mel amplitudes, which pictures alone don't need."""
        return inversion_of(self.analysis, self.device)

    @property
    def bins(self) -> int:
        """Bins of `stft`: as far up as bands hear."""
        return self.inversion.bins

    def to_analysis_rate(self, waveform: Tensor) -> Tensor:
        """A waveform (channels, samples) at the analysis rate, on this device.

        It is scaled so that a frame, which has fewer samples to sum, keeps its mel amplitudes.
        """
        p, q = self.params, self.analysis
        if q.sample_rate == p.sample_rate:
            return waveform.to(self.device)
        ratio = p.sample_rate / q.sample_rate
        resampled = soxr.resample(waveform.cpu().numpy().T, p.sample_rate, q.sample_rate, quality="HQ").T
        return ratio * fit_length(torch.from_numpy(resampled), int(waveform.shape[-1] / ratio))

    def from_analysis_rate(self, waveform: Tensor, samples: int) -> Tensor:
        """The inverse of `to_analysis_rate`, for a result of `samples` samples."""
        p, q = self.params, self.analysis
        if q.sample_rate != p.sample_rate:
            played = soxr.resample(waveform.numpy().T, q.sample_rate, p.sample_rate, quality="HQ").T
            waveform = torch.from_numpy(played) * (q.sample_rate / p.sample_rate)
        return fit_length(waveform, samples)

    def stft(self, waveform: Tensor) -> Tensor:
        """Complex STFT of unpadded frames, centred with reflection, as far up as bands hear, at the analysis rate.

        (channels, samples) -> (channels, bins, frames).
        """
        q = self.analysis
        spectrum = torch.stft(waveform, q.win_length, q.hop_length, window=self.window, return_complex=True)
        return spectrum[:, : self.bins]

    def inverse_stft(self, spectrum: Tensor, samples: int) -> Tensor:
        """Inverse of `stft`: (channels, bins, frames) -> (channels, samples). As torch.istft, in half of its time."""
        q = self.analysis
        frames = torch.fft.irfft(spectrum.transpose(1, 2), q.win_length) * self.window  # (channels, frames, win_length)
        weights = (self.window**2).expand(1, frames.shape[1], -1)
        heard = slice(q.win_length // 2, q.win_length // 2 + samples)  # of centred frames
        summed, weight = (overlapped(each, q.hop_length)[:, heard] for each in (frames, weights))
        return fit_length(summed / weight.clamp(min=1e-11), samples)

    def mel_amplitudes_from_waveform(self, waveform: Tensor, mixes: Tensor | None = None) -> Tensor:
        """Linear mel amplitudes: (channels, samples) -> (channels, num_frequencies, frames).

        With `mixes` (sums, channels), those of weighted sums of the channels instead, (sums, num_frequencies, frames):
        the STFT is linear, so each channel is transformed once, however many sums it is part of.
        """
        p, q = self.params, self.analysis
        edge = p.win_length // 2  # of a zero-padded frame only the middle is heard
        padded = torch.nn.functional.pad(waveform.to(self.device), (edge, edge), mode="reflect")
        if q.sample_rate != p.sample_rate:
            padded = self.to_analysis_rate(padded)
        samples = waveform.shape[-1] // p.hop_length * q.hop_length + q.win_length
        padded = fit_length(padded, samples)
        frames = padded.unfold(-1, q.win_length, q.hop_length)
        blocks = []
        at_once = CPU_BLOCK_FRAMES if self.device.type == "cpu" else GPU_BLOCK_FRAMES
        for block in frames.split(at_once, dim=1):
            spectrum = torch.view_as_real(torch.fft.rfft(block * self.window, n=q.n_fft)[..., : self.top_bin])
            magnitude = magnitudes(spectrum, mixes)
            mel = torch.sparse.mm(self.filters, magnitude.flatten(0, 1).T)
            blocks.append(mel.unflatten(1, magnitude.shape[:2]))
        return torch.cat(blocks, dim=-1).transpose(0, 1)

    def spread_to_bins(self, values: Tensor) -> Tensor:
        """One value per mel band, such as a gain, to the bins of `stft`, interpolated between bands."""
        return _product(self.inversion.spreading, values)

    def magnitude_from_mel_amplitudes(self, mel: Tensor) -> Tensor:
        """Least-squares magnitude, not negative: (channels, num_frequencies, frames) -> (channels, bins, frames).

        Only low bins have one, where bands are closer than bins; above it is zero, and `fit_magnitude` has to say.
        """
        low = _product(self.inversion.inverse, mel.to(self.device)).clamp(min=0)
        full = torch.nn.functional.pad(low, (0, 0, 0, self.bins - low.shape[1]))
        return full.transpose(1, 2).contiguous().transpose(1, 2)  # in memory frame by frame, as `stft` has it

    def fit_magnitude(self, magnitude: Tensor, mel: Tensor, least_squares: Tensor) -> Tensor:
        """Magnitudes with the wanted mel amplitudes (channels, num_frequencies, frames), on the bins of `stft`.

        Low bins are told by their bands: `least_squares`. High bands are wider than bins and say only how loud these
        are together: `magnitude` is scaled to that, by the multiplicative rule of non-negative matrix factorisation
        (Lee and Seung 1999) with the mel filters as its basis.
        """
        loudness = _product(self.inversion.band_filters, magnitude)
        floor = max(1e-6 * float(mel.max()), 1e-12)
        scaled = magnitude * self.spread_to_bins(mel / loudness.clamp(min=floor))
        return torch.lerp(least_squares, scaled, self.inversion.wide_share)


def fit_length(waveform: Tensor, samples: int) -> Tensor:
    """A waveform (channels, samples) cut, or padded with silence, at its end: resampling rounds lengths."""
    return torch.nn.functional.pad(waveform, (0, samples - waveform.shape[-1]))


def magnitudes(spectrum: Tensor, mixes: Tensor | None) -> Tensor:
    """Magnitudes of weighted sums of channels, each on its own, so that it stays in a CPU's cache.

    (channels, frames, bins, 2) by weights (sums, channels) -> (sums, frames, bins); without weights, of the channels.
    """
    weights = torch.eye(len(spectrum)) if mixes is None else mixes
    found = spectrum.new_empty((len(weights), *spectrum.shape[1:-1]))
    for row, out in zip(weights.tolist(), found, strict=True):
        squares = weighted_sum(spectrum, row).square()
        torch.add(squares[..., 0], squares[..., 1], out=out).sqrt_()  # several times as fast as abs
    return found


def weighted_sum(channels: Tensor, weights: list[float]) -> Tensor:
    """The sum of channels (channels, ...) by their weights, most of which are 0 or 1."""
    heard = [(channel, weight) for channel, weight in zip(channels, weights, strict=True) if weight]
    parts = [channel if weight == 1 else weight * channel for channel, weight in heard]
    return functools.reduce(torch.add, parts) if parts else torch.zeros_like(channels[0])


def overlapped(frames: Tensor, hop: int) -> Tensor:
    """Frames (channels, frames, length) added up, each `hop` samples after the one before: (channels, samples)."""
    count, parts = frames.shape[1], -(-frames.shape[2] // hop)
    padded = torch.nn.functional.pad(frames, (0, parts * hop - frames.shape[2])) if frames.shape[2] % hop else frames
    sums = frames.new_zeros((len(frames), count + parts - 1, hop))
    for part in range(parts):
        sums[:, part : part + count] += padded[:, :, part * hop : (part + 1) * hop]
    return sums.flatten(1)


def absolute(spectrum: Tensor) -> Tensor:
    """The magnitudes of a complex spectrum, in half of the time that its `abs` takes."""
    parts = torch.view_as_real(spectrum)
    return torch.sqrt(parts[..., 0] ** 2 + parts[..., 1] ** 2)


def _product(matrix: Tensor, values: Tensor) -> Tensor:
    """A matrix (rows, columns) times every channel of (channels, columns, frames)."""
    flat = matrix @ values.transpose(0, 1).flatten(1)
    return flat.unflatten(1, (values.shape[0], values.shape[2])).transpose(0, 1)
