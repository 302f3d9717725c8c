"""A model painting over a song of any length, in windows that are sampled together and sounded one after another."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from riffusion.diffusion.encode import latent_factor
from riffusion.diffusion.sampling import Settings, decode, encode_images, reconstruct_images, sample
from riffusion.diffusion.windows import Canvas, blend_scales, lay_windows
from riffusion.image import mel_from_pixels, pixels_from_mel, shared_max_value
from riffusion.pairs.tasks import Task
from riffusion.phase import painted_stem
from riffusion.spectrogram import SpectrogramConverter

FADE_SECONDS = 0.03  # at both ends of what is painted, so that it neither begins nor ends with a click
SILENT_BLOCK = 1 << 16  # samples


@dataclass
class Painter:
    """A model, what its edited pictures show ("mix" or "stem"), and how many pictures it samples together."""

    pipeline: StableDiffusionInstructPix2PixPipeline
    converter: SpectrogramConverter
    target: str
    batch_size: int
    quiet: bool = False


@dataclass
class Region:
    """Samples of a song from `start` up to `end`."""

    start: int
    end: int

    def grown(self, least: int, samples: int) -> "Region":
        """This region with as much around it as makes it `least` long, within a song of `samples`."""
        missing = max(0, least - (self.end - self.start))
        start = min(max(0, self.start - missing // 2), max(0, samples - least))
        return Region(start, min(max(self.end, start + least), samples))


@contextmanager
def open_view(mono: Path, region: Region, painter: Painter) -> Iterator["View"]:
    """A song, mono at the model's sample rate, ready to be painted over in a region: its windows are encoded.

    Memory grows with the length only by the latents, a thousandth of the sound.
    """
    with soundfile.SoundFile(os.fsencode(mono)) as song:
        yield View(song, region, painter)


class View:
    """A region of a song, and as much around it as makes a clip, through the windows of a model."""

    def __init__(self, song: soundfile.SoundFile, painted: Region, painter: Painter):
        self.song, self.painted, self.painter = song, painted, painter
        self.params = painter.converter.params
        self.region = painted.grown(self.params.clip_samples, song.frames)
        factor = latent_factor(painter.pipeline.vae)
        frames = (self.region.end - self.region.start) // self.params.hop_length + 1
        self.columns = lay_windows(-(-frames // factor), -(-self.params.num_frames // factor))
        self.frames: Canvas = self.columns.scaled(factor)
        self.conditions, self.scales = self.encode()

    def paint(self, prompt: str, noises: list[str], settings: Settings) -> Tensor:
        """Latents (answers, C, h, columns) of an answer for each name, which chooses its noise."""
        painter, answers = self.painter, len(noises)
        conditions, prompts = self.conditions.repeat(answers, 1, 1, 1), [prompt] * answers
        with tqdm(
            total=len(conditions) * settings.num_inference_steps, unit="step", desc="painting", disable=painter.quiet
        ) as bar:
            return sample(
                painter.pipeline, conditions, prompts, noises, settings, self.columns, painter.batch_size, bar
            )

    def stem(self, latents: Tensor, task: Task) -> Iterator[np.ndarray]:
        """The stem that latents (C, h, columns) show, as long as the song and silent outside the painted region.

        It comes in blocks, float32 (samples,), at the model's sample rate.
        """
        yield from silence(self.region.start)
        place, rate = self.region.start, self.params.sample_rate
        parts = self.sound(latents, task)
        for part in tqdm(parts, total=len(self.frames.starts), desc="sound", unit="clip", disable=self.painter.quiet):
            yield part[0] * envelope(place, part.shape[1], self.painted, rate)
            place += part.shape[1]
        yield from silence(self.song.frames - place)

    def windows(self, label: str) -> tqdm:
        """The windows' first frames, counted on the way: in a long song they take a while."""
        return tqdm(self.frames.starts, desc=label, unit="clip", disable=self.painter.quiet)

    def waveform(self, start_frame: int) -> Tensor:
        """The samples (1, samples) of a window, with silence after the region's end."""
        first = self.region.start + start_frame * self.params.hop_length
        samples = (self.frames.width - 1) * self.params.hop_length
        self.song.seek(first)
        heard = self.song.read(min(samples, self.region.end - first), dtype="float32")
        return torch.from_numpy(np.pad(heard, (0, samples - len(heard))))[None]

    def encode(self) -> tuple[Tensor, np.ndarray]:
        """The windows' latents (windows, C, h, w), and the amplitude of black in every frame (frames,).

        That goes over from each window's own to the next's, so that what two windows share looks the same in both.
        """
        converter = self.painter.converter
        peaks = []
        for start in self.windows("reading"):
            mel = converter.mel_amplitudes_from_waveform(self.waveform(start)).cpu().numpy()
            peaks.append(shared_max_value(mel))
        scales = blend_scales(self.frames, peaks)
        conditions = []
        for start in self.windows("encoding"):
            mel = converter.mel_amplitudes_from_waveform(self.waveform(start)).cpu().numpy()
            black = scales[start : start + self.frames.width]
            level = np.divide(mel, black, out=np.zeros_like(mel), where=black > 0)
            picture = Image.fromarray(pixels_from_mel(level, 1.0, self.params.power_for_image)[0])
            conditions.append(encode_images(self.painter.pipeline, [picture]))
        return torch.cat(conditions), scales

    def sound(self, latents: Tensor, task: Task) -> Iterator[np.ndarray]:
        """What was painted, window by window: float32 (1, samples), one after another up to the region's end.

        Each window sounds from the middle of what it shares with the one before; up to there it continues that
        one's stem. `latents` are (C, h, columns).
        """
        painter, hop = self.painter, self.params.hop_length
        joints = [min(joint * hop, self.region.end - self.region.start) for joint in self.frames.joints()]
        joints[-1] = self.region.end - self.region.start
        change = torch.zeros(1, 0)  # what the window before painted, from its own start on
        for number, (start, column) in enumerate(zip(self.frames.starts, self.columns.starts, strict=True)):
            waveform = self.waveform(start)
            black = self.scales[start : start + self.frames.width]
            after = self.mel(latents[None, ..., column : column + self.columns.width], black)
            before = after
            if painter.target == "mix":
                unedited = self.conditions[number : number + 1] * painter.pipeline.vae.config.scaling_factor
                before = self.mel(unedited, black)
            prior = None
            if number:
                passed = (start - self.frames.starts[number - 1]) * hop
                prior = change[:, passed : passed + joints[number] - start * hop]
            change = painted_stem(
                painter.converter, waveform, before, after, painter.target, prior, task.takes_from_input
            ).cpu()
            share = slice(joints[number] - start * hop, joints[number + 1] - start * hop)
            part = change[:, share].numpy()
            if painter.target == "mix":
                part = task.stem_of_change(waveform[:, share].numpy(), part)
            missing = joints[number + 1] - joints[number] - part.shape[1]  # less than a frame, after the last one
            yield np.pad(part, ((0, 0), (0, missing)))

    def mel(self, latents: Tensor, black: np.ndarray) -> Tensor:
        """Mel amplitudes (1, bands, frames) of what latents (1, C, h, w) show."""
        pixels = decode(self.painter.pipeline, latents)
        pixels = pixels[:, : self.params.num_frequencies, : self.frames.width]
        return torch.from_numpy(mel_from_pixels(pixels, 1.0, self.params.power_for_image) * black)


def silence(samples: int) -> Iterator[np.ndarray]:
    """So many samples of silence, in blocks."""
    for first in range(0, samples, SILENT_BLOCK):
        yield np.zeros(min(samples - first, SILENT_BLOCK), dtype=np.float32)


def envelope(place: int, samples: int, region: Region, rate: int) -> np.ndarray:
    """A fade in and out of a region, float32 (samples,), for the samples that begin at `place` of the song."""
    there = np.arange(place, place + samples)
    fade = max(min(round(FADE_SECONDS * rate), (region.end - region.start) // 2), 1)
    return np.clip(np.minimum(there - region.start, region.end - 1 - there) / fade, 0, 1).astype(np.float32)


def unedited_images(originals: list[Image.Image], painter: Painter) -> list[Image.Image]:
    """What edited pictures are to be compared with: of a mix the autoencoder's own picture, whose error is in both."""
    return reconstruct_images(painter.pipeline, originals) if painter.target == "mix" else originals
