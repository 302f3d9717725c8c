"""Waveform to mel amplitudes and back, with Riffusion V1's settings (github.com/riffusion/riffusion-hobby)."""

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import soxr
import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

CPU_BLOCK_FRAMES, GPU_BLOCK_FRAMES = 64, 1024  # transformed at a time: on a CPU what fits into its cache
LEAN_RATE = 24000  # Hz: all that a picture which ends at 10 kHz needs


class ExifTags(enum.IntEnum):
    """Riffusion's private EXIF tags."""

    SAMPLE_RATE = 11000
    STEREO = 11005
    STEP_SIZE_MS = 11010
    WINDOW_DURATION_MS = 11020
    PADDED_DURATION_MS = 11030
    NUM_FREQUENCIES = 11040
    MIN_FREQUENCY = 11050
    MAX_FREQUENCY = 11060
    POWER_FOR_IMAGE = 11070
    MAX_VALUE = 11080


@dataclass(frozen=True)
class SpectrogramParams:
    """What a spectrogram picture means. Field names and defaults are Riffusion V1's; `num_frames` is ours.

    Durations are in milliseconds, frequencies in Hz. `num_frames` is the width of one clip's picture.
    """

    stereo: bool = False
    sample_rate: int = 44100
    step_size_ms: int = 10
    window_duration_ms: int = 100
    padded_duration_ms: int = 400
    num_frequencies: int = 512
    min_frequency: int = 0
    max_frequency: int = 10000
    power_for_image: float = 0.25
    num_griffin_lim_iters: int = 32
    num_frames: int = 512

    @property
    def n_fft(self) -> int:
        """Samples of one zero-padded frame."""
        return int(self.padded_duration_ms / 1000 * self.sample_rate)

    @property
    def win_length(self) -> int:
        """Samples under the Hann window."""
        return int(self.window_duration_ms / 1000 * self.sample_rate)

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return int(self.step_size_ms / 1000 * self.sample_rate)

    @property
    def clip_samples(self) -> int:
        """Samples whose centred STFT has exactly `num_frames` frames."""
        return (self.num_frames - 1) * self.hop_length

    @property
    def clip_seconds(self) -> float:
        """Seconds of one clip."""
        return self.clip_samples / self.sample_rate

    def lean(self) -> "SpectrogramParams":
        """Params of the same frames and bins at `LEAN_RATE`, or these where that would lose something.

        Frames and bins are the same if every duration is a whole number of samples at both rates.
        """
        lean = replace(self, sample_rate=LEAN_RATE)
        rates = (self.sample_rate / LEAN_RATE,) * 3
        ratios = (self.n_fft / lean.n_fft, self.win_length / lean.win_length, self.hop_length / lean.hop_length)
        return lean if self.sample_rate > LEAN_RATE and self.max_frequency <= 10000 and ratios == rates else self

    def to_exif(self, max_value: float) -> dict[int, int | float | bool]:
        """EXIF tags that let anybody decode the picture; `max_value` is the amplitude of a black pixel."""
        fields = {tag: getattr(self, tag.name.lower()) for tag in ExifTags if tag is not ExifTags.MAX_VALUE}
        return {int(tag): value for tag, value in fields.items()} | {int(ExifTags.MAX_VALUE): float(max_value)}

    @classmethod
    def from_exif(cls, exif: Mapping[int, object]) -> "SpectrogramParams":
        """Params from a picture's EXIF; a tag that is missing keeps Riffusion's default."""
        fields = {}
        for tag in ExifTags:
            if tag is ExifTags.MAX_VALUE or tag not in exif:
                continue
            name = tag.name.lower()
            fields[name] = type(getattr(cls, name))(exif[tag])
        return cls(**fields)


@functools.lru_cache(maxsize=4)
def mel_filters(params: SpectrogramParams) -> np.ndarray:
    """HTK mel filters without norm, float32 (num_frequencies, n_fft // 2 + 1)."""
    filters = mel_filter_bank(
        num_frequency_bins=params.n_fft // 2 + 1,
        num_mel_filters=params.num_frequencies,
        min_frequency=params.min_frequency,
        max_frequency=params.max_frequency,
        sampling_rate=params.sample_rate,
        norm=None,
        mel_scale="htk",
    )
    return np.ascontiguousarray(filters.T, dtype=np.float32)


@functools.lru_cache(maxsize=4)
def mel_inverse(params: SpectrogramParams) -> np.ndarray:
    """Right pseudo-inverse of the mel filters on the bins of an unpadded frame.

    The padding only interpolates the spectrum, so every n_fft / win_length-th bin of the padded frame is a bin
    of the unpadded one: (win_length // 2 + 1, num_frequencies).
    """
    filters = mel_filters(params).astype(np.float64)
    inverse = np.linalg.solve(filters @ filters.T, filters).T
    return inverse[:: params.n_fft // params.win_length].astype(np.float32)


def griffin_lim(spectrum: Tensor, window: Tensor, hop_length: int, iterations: int, momentum: float = 0.99) -> Tensor:
    """Fast Griffin-Lim (Perraudin, Balazs and Soendergaard 2013, algorithm 2).

    `spectrum` is complex (channels, bins, frames): the wanted magnitude with the phase to start from. Returns
    (channels, (frames - 1) * hop_length) samples.
    """
    n_fft = len(window)
    magnitude, previous = spectrum.abs(), torch.zeros_like(spectrum)
    for _ in range(iterations):
        waveform = torch.istft(spectrum, n_fft, hop_length, window=window)
        consistent = torch.stft(waveform, n_fft, hop_length, window=window, return_complex=True)
        step = consistent + momentum * (consistent - previous)
        spectrum, previous = magnitude * torch.sgn(step), consistent
    return torch.istft(spectrum, n_fft, hop_length, window=window)


class SpectrogramConverter:
    """Waveform to mel amplitudes and back. Waveforms are float32 in [-1, 1], shaped (..., samples)."""

    def __init__(self, params: SpectrogramParams | None = None, device: str = "cpu"):
        self.params = params or SpectrogramParams()
        self.device = torch.device(device)
        self.window = torch.hann_window(self.params.win_length, device=self.device)
        # Pictures are made from a resampled signal, by half the work, on a CPU, where soxr resamples.
        self.drawn = self.params.lean() if self.device.type == "cpu" else self.params
        filters = torch.from_numpy(mel_filters(self.drawn))
        self.top_bin = int(filters.any(dim=0).nonzero().max()) + 1  # no band hears anything above
        self.filters = filters[:, : self.top_bin].to_sparse().to(self.device)  # 0.2 % of the entries are not zero

    def stft(self, waveform: Tensor) -> Tensor:
        """Complex STFT of unpadded frames, centred with reflection.

        (channels, samples) -> (channels, win_length // 2 + 1, frames).
        """
        p = self.params
        return torch.stft(waveform.to(self.device), p.win_length, p.hop_length, window=self.window, return_complex=True)

    def mel_amplitudes_from_waveform(self, waveform: Tensor, mixes: Tensor | None = None) -> Tensor:
        """Linear mel amplitudes: (channels, samples) -> (channels, num_frequencies, frames).

        With `mixes` (sums, channels), those of weighted sums of the channels instead, (sums, num_frequencies, frames):
        the STFT is linear, so each channel is transformed once, however many sums it is part of.
        """
        p, q = self.params, self.drawn
        edge = p.win_length // 2  # of a zero-padded frame only the middle is heard
        padded = torch.nn.functional.pad(waveform.to(self.device), (edge, edge), mode="reflect")
        if q.sample_rate != p.sample_rate:
            lean = soxr.resample(padded.numpy().T, p.sample_rate, q.sample_rate, quality="HQ").T
            padded = torch.from_numpy(lean) * (p.sample_rate / q.sample_rate)  # a frame has fewer samples to sum
        samples = waveform.shape[-1] // p.hop_length * q.hop_length + q.win_length
        padded = torch.nn.functional.pad(padded, (0, samples - padded.shape[-1]))  # resampling rounds the length
        frames = padded.unfold(-1, q.win_length, q.hop_length)
        window = torch.hann_window(q.win_length, device=self.device)
        blocks = []
        at_once = CPU_BLOCK_FRAMES if self.device.type == "cpu" else GPU_BLOCK_FRAMES
        for block in frames.split(at_once, dim=1):
            spectrum = torch.view_as_real(torch.fft.rfft(block * window, n=q.n_fft)[..., : self.top_bin])
            if mixes is not None:
                spectrum = torch.tensordot(mixes.to(spectrum), spectrum, dims=1)
            magnitude = torch.sqrt(spectrum[..., 0] ** 2 + spectrum[..., 1] ** 2)  # several times as fast as abs
            mel = torch.sparse.mm(self.filters, magnitude.flatten(0, 1).T)
            blocks.append(mel.unflatten(1, magnitude.shape[:2]))
        return torch.cat(blocks, dim=-1).transpose(0, 1)

    def inverse_stft(self, spectrum: Tensor, samples: int) -> Tensor:
        """Inverse of `stft`: (channels, bins, frames) -> (channels, samples)."""
        p = self.params
        return torch.istft(spectrum, p.win_length, p.hop_length, window=self.window, length=samples)

    def spread_to_bins(self, values: Tensor) -> Tensor:
        """A value a mel band, such as a gain, to the bins of `stft`, interpolated between bands."""
        step = self.params.n_fft // self.params.win_length
        weights = torch.from_numpy(mel_filters(self.params)[:, ::step]).to(self.device)
        return (weights / weights.sum(dim=0).clamp(min=1e-9)).T @ values.to(self.device)

    def magnitude_from_mel_amplitudes(self, mel: Tensor) -> Tensor:
        """Least-squares STFT magnitude, not negative: (channels, num_frequencies, frames) -> (channels, bins, frames).

        The bins are those of `stft`.
        """
        inverse = torch.from_numpy(mel_inverse(self.params)).to(self.device)
        return (inverse @ mel.to(self.device)).clamp(min=0)

    def waveform_from_mel_amplitudes(self, mel: Tensor, start: Tensor | None = None) -> Tensor:
        """Griffin-Lim: (channels, num_frequencies, frames) -> (channels, (frames - 1) * hop_length).

        `start` is a waveform whose phase the iteration begins with; without one it begins with a fixed random phase.
        """
        magnitude = self.magnitude_from_mel_amplitudes(mel)
        if start is None:
            generator = torch.Generator().manual_seed(0)
            turns = torch.rand(magnitude.shape, generator=generator).to(self.device)
            spectrum = torch.polar(magnitude, 2 * torch.pi * turns)
        else:
            spectrum = torch.polar(magnitude, self.stft(start).angle())
        return self.griffin_lim(spectrum, self.params.num_griffin_lim_iters)

    def griffin_lim(self, spectrum: Tensor, iterations: int) -> Tensor:
        """`griffin_lim` on the bins of `stft`: (channels, bins, frames) -> (channels, samples)."""
        return griffin_lim(spectrum, self.window, self.params.hop_length, iterations)
