"""A model painting over a waveform of any length, clip by clip."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image
from tqdm import tqdm

from riffusion.edits import changed_stem
from riffusion.image import image_from_spectrogram, shared_max_value, spectrogram_from_image
from riffusion.phase import painted_stem
from riffusion.sampling import Settings, edit_images, reconstruct_images
from riffusion.spectrogram import SpectrogramConverter

FADE_SECONDS = 0.03  # at both ends of every painted clip, so that none begins or ends with a click


@dataclass
class Painter:
    """A model, what its edited pictures show ("mix" or "stem"), and how to sample it."""

    pipeline: StableDiffusionInstructPix2PixPipeline
    converter: SpectrogramConverter
    target: str
    settings: Settings
    batch_size: int


def paint_waveform(mono: np.ndarray, prompt: str, task: str, name: str, painter: Painter) -> np.ndarray:
    """The stem that an instruction is about: float32 mono (1, samples) to (1, samples), at the model's sample rate.

    Clips follow one another; the last one ends with the signal and adds only what the others left open. `name` and
    the clip's place choose its noise.
    """
    samples, clip = mono.shape[1], painter.converter.params.clip_samples
    starts = [*range(0, samples - clip, clip), samples - clip]
    stem, painted_until = np.zeros_like(mono), 0
    with tqdm(total=len(starts), unit="clip", desc=name) as progress:
        for first in range(0, len(starts), painter.batch_size):
            batch = starts[first : first + painter.batch_size]
            clips = [mono[:, start : start + clip] for start in batch]
            names = [f"{name} {start}" for start in batch]
            for start, painted in zip(batch, paint_clips(clips, prompt, task, names, painter), strict=True):
                stem[:, painted_until : start + clip] = faded(painted[:, painted_until - start :], painter)
                painted_until = start + clip
                progress.update()
    return stem


def paint_clips(
    clips: list[np.ndarray], prompt: str, task: str, names: list[str], painter: Painter
) -> list[np.ndarray]:
    """The stems that an instruction is about, one a clip (1, clip_samples), sampled as one batch.

    A silent clip stays silent. `task` is what the instruction asks for, of `riffusion.edits.TASKS`.
    """
    converter = painter.converter
    params = converter.params
    waveforms = [torch.from_numpy(clip) for clip in clips]
    mels = [converter.mel_amplitudes_from_waveform(waveform).cpu().numpy() for waveform in waveforms]
    max_values = [shared_max_value(mel) for mel in mels]
    originals = [image_from_spectrogram(mel, params, top) for mel, top in zip(mels, max_values, strict=True)]
    edited = edit_images(painter.pipeline, originals, [prompt] * len(clips), names, painter.settings)
    unedited = unedited_images(originals, painter)
    stems = []
    for waveform, original, edit, top in zip(waveforms, unedited, edited, max_values, strict=True):
        before, after = (torch.from_numpy(spectrogram_from_image(image, params, top)) for image in (original, edit))
        stem = painted_stem(converter, waveform, before, after, painter.target).cpu().numpy().astype(np.float32)
        stems.append(changed_stem(task, waveform.numpy(), stem) if painter.target == "mix" else stem)
    return stems


def unedited_images(originals: list[Image.Image], painter: Painter) -> list[Image.Image]:
    """What edited pictures are to be compared with: of a mix the autoencoder's own picture, whose error is in both."""
    return reconstruct_images(painter.pipeline, originals) if painter.target == "mix" else originals


def faded(clip: np.ndarray, painter: Painter) -> np.ndarray:
    """The clip (1, samples) rising from and falling to silence."""
    fade = min(round(FADE_SECONDS * painter.converter.params.sample_rate), clip.shape[1] // 2)
    envelope = np.ones(clip.shape[1], dtype=np.float32)
    if fade:
        ramp = np.linspace(0, 1, fade, endpoint=False, dtype=np.float32)
        envelope[:fade], envelope[-fade:] = ramp, ramp[::-1]
    return clip * envelope
