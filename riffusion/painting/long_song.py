"""A model painting over a song of any length, in windows that are sampled together and sounded one after another."""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from riffusion.diffusion.encode import latent_factor
from riffusion.diffusion.knowledge import Knowledge, unheard
from riffusion.diffusion.sampling import Denoiser, Settings, decode, encode_images, reconstruct_images
from riffusion.diffusion.windows import Canvas, LevelBlend, tile
from riffusion.image import mel_from_pixels, pixels_from_mel, shared_max_value
from riffusion.pairs.tasks import Task
from riffusion.phase import change_from_mix_images, stem_by_mask, stem_from_image
from riffusion.spectrogram import SpectrogramConverter
from riffusion.util.threads import ahead, core_count, side_by_side

FADE_SECONDS = 0.03  # at both ends of what is painted, so that it neither begins nor ends with a click
SILENT_BLOCK = 1 << 16  # samples


@dataclass
class Painter:
    """A model, what its edited pictures show ("mix" or "stem"), how many pictures it samples together, and what it
    was trained on, if its folder says so."""

    pipeline: StableDiffusionInstructPix2PixPipeline
    converter: SpectrogramConverter
    target: str
    batch_size: int
    quiet: bool = False
    knowledge: Knowledge | None = None
    encoded: dict[object, tuple[Tensor, np.ndarray]] = field(default_factory=dict)  # what it heard last

    def never_heard(self, prompt: str) -> list[str]:
        """The instruments that an instruction asks for though the model wasn't trained on any, as far as is known."""
        return [] if self.knowledge is None else unheard(prompt, self.knowledge)


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
def open_song(mono: Path, region: Region, painter: Painter, sound: str = "") -> Iterator["TiledSong"]:
    """A song, mono at the model's sample rate, ready to be painted over in a region: its windows are encoded.

    That is done once for jobs that follow one another, if they name their `sound`, by its digest, and it is the same.
    Memory grows with the length only by the latents, a thousandth of the sound.
    """
    with soundfile.SoundFile(os.fsencode(mono)) as song:
        yield TiledSong(song, region, painter, sound)


@dataclass(frozen=True)
class Share:
    """What is heard of a window, in samples of the region: it begins at `window`, and sounds from `start` to `end`."""

    window: int
    start: int
    end: int

    @property
    def inside(self) -> slice:
        """The same in samples of the window."""
        return slice(self.start - self.window, self.end - self.window)

    def overlap(self, later: "Share") -> slice:
        """What a later window shares with this one before it sounds, in samples of this window."""
        return slice(later.window - self.window, later.start - self.window)


class TiledSong:
    """A region of a song, and as much around it as makes a clip, through the overlapping windows of a model."""

    def __init__(self, song: soundfile.SoundFile, painted: Region, painter: Painter, sound: str = ""):
        self.song, self.painted, self.painter = song, painted, painter
        self.params, self.cores = painter.converter.params, core_count(painter.pipeline.device)
        self.region = painted.grown(self.params.clip_samples, song.frames)
        factor = latent_factor(painter.pipeline.vae)
        frames = (self.region.end - self.region.start) // self.params.hop_length + 1
        self.columns = tile(-(-frames // factor), -(-self.params.num_frames // factor))  # of latents
        self.frames: Canvas = self.columns.scaled(factor)
        self.conditions, self.max_values = self.encode_once(sound)  # (windows, C, h, w), and (frames,)

    def paint(self, prompt: str, noises: list[str], settings: Settings) -> Tensor:
        """Latents (candidates, C, h, columns), one candidate for each name, which chooses its noise."""
        painter, conditions = self.painter, self.conditions.repeat(len(noises), 1, 1, 1)
        steps = len(conditions) * settings.num_inference_steps
        with tqdm(total=steps, unit="step", desc="painting", disable=painter.quiet) as progress:
            progress.set_postfix_str(settings.guidance)
            denoiser = Denoiser(painter.pipeline, settings, self.columns, painter.batch_size, progress)
            return denoiser.sample(conditions, [prompt] * len(noises), noises)

    def stem(self, latents: Tensor, task: Task) -> Iterator[np.ndarray]:
        """The stem that latents (C, h, columns) show, as long as the song and silent outside the painted region.

        It comes in blocks, float32 (samples,), at the model's sample rate.
        """
        yield from silence(self.region.start)
        place, rate = self.region.start, self.params.sample_rate
        parts, windows = ahead(self.sound(latents, task), self.cores), len(self.frames.starts)
        for part in tqdm(parts, total=windows, desc="sound", unit="clip", disable=self.painter.quiet):
            yield part * envelope(place, len(part), self.painted, rate)
            place += len(part)
        yield from silence(self.song.frames - place)

    def waveform(self, start_frame: int) -> Tensor:
        """The samples (1, samples) of a window, with silence after the region's end."""
        first = self.region.start + start_frame * self.params.hop_length
        samples = (self.frames.width - 1) * self.params.hop_length
        self.song.seek(first)
        heard = self.song.read(min(samples, self.region.end - first), dtype="float32")
        return torch.from_numpy(np.pad(heard, (0, samples - len(heard))))[None]

    def encode_once(self, sound: str) -> tuple[Tensor, np.ndarray]:
        """`encode`, or what that gave last if it was for the same region of the same sound; "" is always another."""
        known, key = self.painter.encoded, (sound, self.region.start, self.region.end)
        if not sound or key not in known:
            known.clear()
            known[key] = self.encode()
        return known[key]

    def encode(self) -> tuple[Tensor, np.ndarray]:
        """The windows' latents (windows, C, h, w), and the amplitude of black in every frame (frames,).

        That blends from each window's own to the next's, so that what two windows share looks the same in both.
        """
        blend, at_once = LevelBlend(self.frames), min(self.cores, len(self.frames.starts))
        windows = self.levelled_windows(blend)
        encoded = side_by_side(lambda window: self.encode_window(*window), windows, at_once, self.cores)
        total, quiet = len(self.frames.starts), self.painter.quiet
        conditions = list(tqdm(encoded, total=total, desc="encoding", unit="clip", disable=quiet))
        return torch.cat(conditions), blend.levels()

    def levelled_windows(self, blend: LevelBlend) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The windows' mel amplitudes (1, bands, width) and amplitudes of black (width,), which are blended meanwhile.

        A window comes as soon as all that overlap it are known.
        """
        width = self.frames.width
        waiting: deque[tuple[int, np.ndarray]] = deque()  # first frames and mel amplitudes
        followers = [*self.frames.starts[1:], self.frames.total]
        for start, following in zip(self.frames.starts, followers, strict=True):
            mel = self.painter.converter.mel_amplitudes_from_waveform(self.waveform(start)).cpu().numpy()
            blend.add(start, shared_max_value(mel))
            waiting.append((start, mel))
            while waiting and waiting[0][0] + width <= following:
                first, mel = waiting.popleft()
                yield mel, blend.levels(first, first + width)

    def encode_window(self, mel: np.ndarray, max_values: np.ndarray) -> Tensor:
        """The latents (1, C, h, w) of mel amplitudes (1, bands, width), with the amplitude of black (width,)."""
        level = np.divide(mel, max_values, out=np.zeros_like(mel), where=max_values > 0)
        pixels = pixels_from_mel(level, 1.0, self.params.power_for_image)[0]  # (bands, width)
        return encode_images(self.painter.pipeline, [Image.fromarray(pixels)])

    def shares(self) -> list[Share]:
        """What is heard of every window: up to the middle of its overlap with the next one."""
        hop, samples = self.params.hop_length, self.region.end - self.region.start
        seams = [min(seam * hop, samples) for seam in self.frames.seams()[:-1]] + [samples]
        starts = [start * hop for start in self.frames.starts]
        return [Share(*each) for each in zip(starts, seams[:-1], seams[1:], strict=True)]

    def sound(self, latents: Tensor, task: Task) -> Iterator[np.ndarray]:
        """What was painted, window by window: float32 (samples,), one after another up to the region's end.

        Each window sounds from the middle of what it shares with the one before; up to there it continues that
        one's stem. `latents` are (C, h, columns).
        """
        before: tuple[Share, Tensor] | None = None  # the last window's, with all that is painted in it
        shown = ahead((self.shown(number, latents) for number in range(len(self.frames.starts))), self.cores)
        for start, share, mels in zip(self.frames.starts, self.shares(), shown, strict=True):
            waveform = self.waveform(start)  # (1, samples)
            prior = None if before is None else before[1][:, before[0].overlap(share)]
            painted = self.painted_in(waveform, mels, prior, task)  # (1, samples)
            before = share, painted
            part = painted[:, share.inside].numpy()
            if self.painter.target == "mix":
                part = task.stem_of_change(waveform[:, share.inside].numpy(), part)
            yield np.pad(part[0], (0, share.end - share.start - part.shape[1]))  # less than a frame, after the last one

    def shown(self, number: int, latents: Tensor) -> list[Tensor]:
        """What a window of latents (C, h, columns) shows as mel amplitudes (1, bands, width).

        Of a mix, those of its input as the model sees it come first.
        """
        column, start = self.columns.starts[number], self.frames.starts[number]
        edited = latents[None, ..., column : column + self.columns.width]  # (1, C, h, w)
        pictures = [self.condition(number), edited] if self.painter.target == "mix" else [edited]
        return [self.mel(picture, self.max_values[start : start + self.frames.width]) for picture in pictures]

    def painted_in(self, waveform: Tensor, mels: list[Tensor], prior: Tensor | None, task: Task) -> Tensor:
        """What is painted in a waveform (1, samples), from what its window shows: the stem, or the change of the mix.

        `prior` (1, fewer samples) is how it begins, as the window before has it.
        """
        converter = self.painter.converter
        if self.painter.target == "mix":
            original, edited = mels
            return change_from_mix_images(converter, waveform, original, edited, prior).cpu()
        stem_of = stem_by_mask if task.takes_from_input else stem_from_image
        return stem_of(converter, waveform, mels[0], prior).cpu()

    def condition(self, number: int) -> Tensor:
        """The latents (1, C, h, w) of a window as it is, scaled as the model's own are."""
        return self.conditions[number : number + 1] * self.painter.pipeline.vae.config.scaling_factor

    def mel(self, latents: Tensor, max_values: np.ndarray) -> Tensor:
        """Mel amplitudes (1, bands, frames) that latents (1, C, h, w) show, with the amplitude of black (frames,)."""
        pixels = decode(self.painter.pipeline, latents)
        pixels = pixels[:, : self.params.num_frequencies, : self.frames.width]
        return torch.from_numpy(mel_from_pixels(pixels, 1.0, self.params.power_for_image) * max_values)


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
