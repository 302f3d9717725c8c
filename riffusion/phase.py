"""From pictures to sound: what an edit adds to a waveform, or all that a picture shows.

A picture holds loudness alone. A waveform that has it is found by fast Griffin-Lim (Perraudin, Balazs and
Soendergaard 2013), of which every turn also fits the bins anew to the picture's mel bands.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from riffusion.spectrogram import SpectrogramConverter

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


def painted_stem(
    converter: SpectrogramConverter,
    waveform: Tensor,
    original_mel: Tensor,
    edited_mel: Tensor,
    target: str,
    prior: Tensor | None = None,
    masking: bool = False,
) -> Tensor:
    """What was painted over `waveform` (1, samples), as (1, samples).

    The mels (1, bands, frames) are the model's pictures of the input and of the edit, decoded on one scale. `target`
    says what the edit shows: "stem", the painted stem alone, or "mix", the input with it. `prior` (1, fewer samples)
    is how the stem begins where that is known; the rest continues it. With `masking`, of a stem
    that is part of the input, its picture says how much of every bin of the input is the stem's.
    """
    original_mel, edited_mel = original_mel.to(converter.device), edited_mel.to(converter.device)
    drawn = converter.to_drawn(waveform)
    samples = drawn.shape[-1]
    beginning = None if prior is None else converter.to_drawn(prior)
    dither = DITHER * torch.randn(drawn.shape, generator=torch.Generator().manual_seed(0)).to(drawn)
    if target == "stem" and masking:
        stem = continued(separated_waveform(converter, waveform, edited_mel), beginning, converter.drawn.sample_rate)
        return converter.from_drawn(stem, waveform.shape[-1])
    if target == "stem":
        start = converter.stft(continued(drawn + dither, beginning, converter.drawn.sample_rate))
        stem = fit_waveform(converter, edited_mel, torch.sgn(start), samples, beginning)
        return converter.from_drawn(stem, waveform.shape[-1])
    heard = converter.mel_amplitudes_from_waveform(waveform)
    mask = painted_mask(original_mel, edited_mel, converter.params.power_for_image)
    # The input's own amplitudes and what its picture lacks of the edit's: an error that both pictures share cancels
    # where the backing is loud, and where the part is louder the edit's picture counts alone.
    mel = torch.where(mask, (heard**2 + edited_mel**2 - original_mel**2).clamp(min=0).sqrt(), heard)
    known, audible = converter.stft(drawn), converter.spread_to_bins(mask.to(mel))
    start = known + converter.stft(continued(dither, beginning, converter.drawn.sample_rate))
    stem = fit_waveform(converter, mel, start, samples, beginning, known, audible, MIX_ITERATIONS)
    return converter.from_drawn(stem, waveform.shape[-1])


def separated_waveform(converter: SpectrogramConverter, waveform: Tensor, stem_mel: Tensor) -> Tensor:
    """One stem of `waveform` (1, samples), as a drawn waveform, from the stem's mel amplitudes (1, bands, frames).

    A Wiener filter: each bin keeps the stem's share of its power.
    """
    drawn = converter.to_drawn(waveform)
    spectrum, heard = converter.stft(drawn), converter.mel_amplitudes_from_waveform(waveform)
    share = (stem_mel / heard.clamp(min=1e-9)).clamp(max=1) ** 2
    return converter.inverse_stft(converter.spread_to_bins(share) * spectrum, drawn.shape[-1])


def waveform_from_mel_amplitudes(converter: SpectrogramConverter, mel: Tensor) -> Tensor:
    """Griffin-Lim from a fixed random phase: (channels, bands, frames) -> (channels, (frames - 1) * hop_length)."""
    generator = torch.Generator().manual_seed(0)
    mel = mel.to(converter.device)
    turns = torch.rand((len(mel), converter.bins, mel.shape[-1]), generator=generator).to(converter.device)
    start = torch.polar(torch.ones_like(turns), 2 * torch.pi * turns)
    frames = mel.shape[-1] - 1
    samples, iterations = frames * converter.drawn.hop_length, converter.params.num_griffin_lim_iters
    waveform = fit_waveform(converter, mel, start, samples, iterations=iterations)
    return converter.from_drawn(waveform, frames * converter.params.hop_length)


def fit_waveform(
    converter: SpectrogramConverter,
    mel: Tensor,
    start: Tensor,
    samples: int,
    beginning: Tensor | None = None,
    known: Tensor | None = None,
    audible: Tensor | None = None,
    iterations: int = STEM_ITERATIONS,
) -> Tensor:
    """A drawn waveform (channels, samples) with mel amplitudes (channels, bands, frames), or what it lacks of them.

    `start` is a spectrum (channels, bins, frames) to begin with. Where `known` is a part of the sound that is there
    already, only the rest of it is returned, which is heard as far as `audible` lets it, from 0 to 1, bin by bin.
    """
    least_squares = converter.magnitude_from_mel_amplitudes(mel)
    previous = spectrum = start
    for turn in range(iterations + 1):
        magnitude = converter.fit_magnitude(spectrum.abs(), mel, least_squares)
        wanted = magnitude * torch.sgn(spectrum + MOMENTUM * (spectrum - previous))
        if known is not None and audible is not None:
            wanted = (wanted - known) * audible
        waveform = continued(converter.inverse_stft(wanted, samples), beginning, converter.drawn.sample_rate)
        if turn < iterations:
            consistent = converter.stft(waveform)
            previous, spectrum = spectrum, consistent if known is None else known + consistent
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
