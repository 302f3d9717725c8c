"""From pictures to sound: what an edit adds to a waveform, or all that a picture shows.

A picture holds loudness alone. A waveform that has it is found by fast Griffin-Lim (Perraudin, Balazs and
Soendergaard 2013), of which every iteration also fits the bins anew to the picture's mel bands.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from riffusion.spectrogram import SpectrogramConverter, absolute

STEM_ITERATIONS = 32
MIX_ITERATIONS = 64  # a mix tells how the stem's phase lies to the input's: it takes longer to find, and pays
MOMENTUM = 0.95
DITHER = 1e-5  # of full scale: a phase to begin with where the input is silent
JOIN_SECONDS = 0.02  # in which a stem that is continued crossfades into its continuation

# A mix is painted where its picture differs from the input's by more than what noise makes of it: a factor times the
# noise that is seen in the difference, within limits, in grey levels.
NOISE_FACTOR = 2.6
GATE_LEVELS = (3.5, 7.0)
LOUD_LEVELS = 16  # grey levels from white: what is nearer to it can't show its noise


def stem_from_image(
    converter: SpectrogramConverter, waveform: Tensor, stem_mel: Tensor, prior: Tensor | None = None
) -> Tensor:
    """The stem (1, samples) that goes with `waveform` (1, samples), from an image of the stem alone.

    `stem_mel` (1, bands, frames) are the image's mel amplitudes. The phase is found from the waveform's own. `prior`
    (1, fewer samples) is how the stem begins where that is known; the rest continues it.
    """
    analysed, beginning = _analysed(converter, waveform, prior)
    start = converter.stft(continued(analysed + _dither(analysed), beginning, converter.analysis.sample_rate))
    sought = Sought(stem_mel.to(converter.device), analysed.shape[-1], beginning)
    return converter.from_analysis_rate(fit_waveform(converter, sought, torch.sgn(start)), waveform.shape[-1])


def change_from_mix_images(
    converter: SpectrogramConverter,
    waveform: Tensor,
    original_mel: Tensor,
    edited_mel: Tensor,
    prior: Tensor | None = None,
) -> Tensor:
    """What an edit adds to `waveform` (1, samples), as (1, samples), from images of the mix before and after it.

    The mels (1, bands, frames) are those images', decoded on one scale. `prior` (1, fewer samples) is how the change
    begins where that is known; the rest continues it.
    """
    original_mel, edited_mel = original_mel.to(converter.device), edited_mel.to(converter.device)
    analysed, beginning = _analysed(converter, waveform, prior)
    heard = converter.mel_amplitudes_from_waveform(waveform)
    mask = painted_mask(original_mel, edited_mel, converter.params.power_for_image)
    # The input's own amplitudes and what its image lacks of the edit's: an error that both images share cancels
    # where the backing is loud, and where the part is louder the edit's image counts alone.
    mel = torch.where(mask, (heard**2 + edited_mel**2 - original_mel**2).clamp(min=0).sqrt(), heard)
    known = Known(converter.stft(analysed), converter.spread_to_bins(mask.to(mel)))
    rate = converter.analysis.sample_rate
    start = known.spectrum + converter.stft(continued(_dither(analysed), beginning, rate))
    change = fit_waveform(converter, Sought(mel, analysed.shape[-1], beginning, known), start, MIX_ITERATIONS)
    return converter.from_analysis_rate(change, waveform.shape[-1])


def stem_by_mask(
    converter: SpectrogramConverter, waveform: Tensor, stem_mel: Tensor, prior: Tensor | None = None
) -> Tensor:
    """A stem (1, samples) that `waveform` (1, samples) holds, from the stem's mel amplitudes (1, bands, frames).

    A Wiener filter: each bin keeps the stem's share of its power. `prior` (1, fewer samples) is how the stem begins
    where that is known; the rest continues it.
    """
    analysed, beginning = _analysed(converter, waveform, prior)
    spectrum, heard = converter.stft(analysed), converter.mel_amplitudes_from_waveform(waveform)
    share = (stem_mel.to(converter.device) / heard.clamp(min=1e-9)).clamp(max=1) ** 2
    stem = converter.inverse_stft(converter.spread_to_bins(share) * spectrum, analysed.shape[-1])
    return converter.from_analysis_rate(continued(stem, beginning, converter.analysis.sample_rate), waveform.shape[-1])


def _analysed(converter: SpectrogramConverter, waveform: Tensor, prior: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Both at the analysis rate."""
    return converter.to_analysis_rate(waveform), None if prior is None else converter.to_analysis_rate(prior)


def _dither(waveform: Tensor) -> Tensor:
    """Noise far below hearing, the same every time."""
    return DITHER * torch.randn(waveform.shape, generator=torch.Generator().manual_seed(0)).to(waveform)


def waveform_from_mel_amplitudes(converter: SpectrogramConverter, mel: Tensor) -> Tensor:
    """Griffin-Lim from a fixed random phase: (channels, bands, frames) -> (channels, (frames - 1) * hop_length)."""
    generator = torch.Generator().manual_seed(0)
    mel = mel.to(converter.device)
    cycles = torch.rand((len(mel), converter.bins, mel.shape[-1]), generator=generator).to(converter.device)
    start = torch.polar(torch.ones_like(cycles), 2 * torch.pi * cycles)
    frames = mel.shape[-1] - 1
    sought = Sought(mel, frames * converter.analysis.hop_length)
    waveform = fit_waveform(converter, sought, start, converter.params.num_griffin_lim_iters)
    return converter.from_analysis_rate(waveform, frames * converter.params.hop_length)


@dataclass(frozen=True)
class Known:
    """A part of a sound that is there already, and where the rest may be heard.

    `spectrum` (channels, bins, frames) is an STFT at the analysis rate; `audible` (channels, bins, frames) is from 0,
    not at all, to 1.
    """

    spectrum: Tensor
    audible: Tensor


@dataclass(frozen=True)
class Sought:
    """A waveform that is looked for, at the analysis rate: with mel amplitudes (channels, bands, frames), so long.

    `beginning` (channels, fewer samples) is how it begins where that is known. With `known` it is the rest of a sound
    that has these mel amplitudes.
    """

    mel: Tensor
    samples: int
    beginning: Tensor | None = None
    known: Known | None = None


def fit_waveform(
    converter: SpectrogramConverter, sought: Sought, start: Tensor, iterations: int = STEM_ITERATIONS
) -> Tensor:
    """The waveform that is sought, (channels, samples), by Griffin-Lim from a spectrum (channels, bins, frames)."""
    mel, known, rate = sought.mel, sought.known, converter.analysis.sample_rate
    least_squares = converter.magnitude_from_mel_amplitudes(mel)  # (channels, bins, frames)
    previous = spectrum = start
    for iteration in range(iterations + 1):
        magnitude = converter.fit_magnitude(absolute(spectrum), mel, least_squares)
        wanted = magnitude * torch.sgn(spectrum + MOMENTUM * (spectrum - previous))  # (channels, bins, frames)
        if known is not None:
            wanted = (wanted - known.spectrum) * known.audible
        waveform = continued(converter.inverse_stft(wanted, sought.samples), sought.beginning, rate)
        if iteration < iterations:
            consistent = converter.stft(waveform)
            previous, spectrum = spectrum, consistent if known is None else known.spectrum + consistent
    return waveform


def continued(waveform: Tensor, beginning: Tensor | None, sample_rate: int) -> Tensor:
    """A waveform (channels, samples) that begins as `beginning` (channels, fewer samples) does.

    At that one's end it crossfades into itself within `JOIN_SECONDS`.
    """
    if beginning is None:
        return waveform
    samples = beginning.shape[-1]
    join = min(round(JOIN_SECONDS * sample_rate), samples)
    weight = pad(torch.linspace(1, 0, join, device=waveform.device), (samples - join, 0), value=1.0)
    return torch.cat([torch.lerp(waveform[..., :samples], beginning, weight), waveform[..., samples:]], dim=-1)


def painted_mask(original_mel: Tensor, edited_mel: Tensor, power: float) -> Tensor:
    """Where two pictures (1, bands, frames) differ by more than their noise: bool, of the same shape.

    Neighbouring frames look through nearly the same window, so what changes from one to the next is noise.
    """
    scale = max(float(original_mel.max()), float(edited_mel.max()), 1e-12)
    levels = [255 * (mel / scale) ** power for mel in (original_mel, edited_mel)]
    difference = levels[1] - levels[0]
    smooth = _average(difference, bands=1)
    seen = torch.maximum(*levels) > LOUD_LEVELS
    rough = (difference - smooth).abs()[seen]
    noise = 1.4826 * float(rough.median()) if rough.numel() else 0.0  # a normal distribution's, from its median
    low, high = GATE_LEVELS
    threshold = min(max(NOISE_FACTOR * noise / 2, low), high)  # smoothing leaves about half of it
    return _average(smooth**2, bands=3).sqrt() > threshold


def _average(values: Tensor, bands: int, frames: int = 5) -> Tensor:
    around = (bands // 2, frames // 2)
    return avg_pool2d(values, (bands, frames), stride=1, padding=around, count_include_pad=False)
