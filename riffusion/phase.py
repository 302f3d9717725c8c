"""From two pictures and the input's own waveform to the painted stem. The backing is never made again."""

import torch
from torch import Tensor

from riffusion.spectrogram import SpectrogramConverter

WARM_ITERATIONS = 16  # of Griffin-Lim, from a phase that is nearly right
GATE = 0.03  # pictures nearer than this (8 of 255 grey levels) say that nothing was painted there


def painted_stem(
    converter: SpectrogramConverter, waveform: Tensor, original_mel: Tensor, edited_mel: Tensor, target: str
) -> Tensor:
    """What was painted over `waveform` (1, samples), as (1, samples).

    The mels (1, bands, frames) are the model's pictures of the input and of the edit, decoded on one scale. `target`
    says what the edit shows: "stem", the painted stem alone, or "mix", the input with it.
    """
    samples = waveform.shape[-1]
    waveform, original_mel, edited_mel = (part.to(converter.device) for part in (waveform, original_mel, edited_mel))
    if target == "mix":
        return gated_difference(converter, waveform, original_mel, edited_mel)
    stem = converter.waveform_from_mel_amplitudes(edited_mel, start=waveform)
    return torch.nn.functional.pad(stem, (0, samples - stem.shape[-1]))


def gated_difference(
    converter: SpectrogramConverter, waveform: Tensor, original_mel: Tensor, edited_mel: Tensor
) -> Tensor:
    """What an edit adds to a waveform: (1, samples), exactly zero where the pictures agree.

    A gain on the waveform's own STFT gives the edit's magnitude, Griffin-Lim from the waveform's phase makes it a
    signal, and of that signal's difference to the waveform only what was painted is kept.
    """
    power = converter.params.power_for_image
    scale = max(float(original_mel.max()), float(edited_mel.max()), 1e-9)
    levels = [(mel / scale) ** power for mel in (original_mel, edited_mel)]
    painted = (levels[1] - levels[0]).abs() > GATE
    floor = scale * GATE ** (1 / power)  # the quietest amplitude that the gate tells from silence
    gain = torch.where(painted, edited_mel / original_mel.clamp(min=floor), 1.0)
    spectrum = converter.stft(waveform)
    edited = converter.griffin_lim(spectrum * converter.spread_to_bins(gain), WARM_ITERATIONS)
    added = converter.stft(edited - waveform[..., : edited.shape[-1]])
    mask = converter.spread_to_bins(painted.to(added.real))
    return converter.inverse_stft(added * mask[..., : added.shape[-1]], waveform.shape[-1])
