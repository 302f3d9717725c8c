"""A whole song's pictures and measurements, however long it is."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from riffusion import audio
from riffusion.image import image_from_pixels, pixels_from_mel
from riffusion.painting.metrics import LevelMeter, SoundMeter, StemAnalysis
from riffusion.pairs.tasks import Task
from riffusion.spectrogram import SpectrogramConverter

BLOCK_FRAMES = 2048  # looked at together: 20 s
CONTEXT_FRAMES = 5  # beside them: half the window
MOST_COLUMNS = 16384  # of a picture; beyond, each is the mean of several frames


class Overview:
    """Pictures of the input, the painted result and the stem on one scale, and what was measured of the edit."""

    def __init__(self, converter: SpectrogramConverter, samples: int):
        self.converter = converter
        frames = samples // converter.params.hop_length + 1
        self.frames_per_column = 1
        while frames > self.frames_per_column * MOST_COLUMNS:
            self.frames_per_column *= 2  # a block's frames are a whole number of columns
        self.columns: dict[str, list[np.ndarray]] = {"input": [], "stem": [], "painted": []}  # levels
        self.level_meter, self.sound_meter = LevelMeter(), SoundMeter()

    def look(
        self,
        song: Path,
        stem: Path,
        task: Task,
        start: int = 0,
        end: int | None = None,
        gains: np.ndarray | None = None,
        loudness: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """Look at a song and the stem that was painted over it, both mixed down to mono.

        It is measured from sample `start` to `end`, at the model's sample rate: where the stem was to be painted. What
        counts there is the power of all channels: the stem lies in its own by `gains` (channels, 1), and `loudness`
        tells the rms of the song's channels over that of the mono song at some seconds of it.
        """
        mix, spread = (audio.mean_of_channels, 1.0) if gains is None else (signed_mean(gains), power_over_mean(gains))
        rate, hop = self.converter.params.sample_rate, self.converter.params.hop_length
        mixes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [float(task.keeps_input), float(task.sign)]])
        place = 0  # in frames
        for block, margin in framed_blocks(song, stem, rate, hop, mix):
            mels = self.converter.mel_amplitudes_from_waveform(torch.from_numpy(block), mixes).cpu().numpy()
            mels = mels[..., margin : margin + BLOCK_FRAMES]
            first = max(start // hop - place, 0)
            last = mels.shape[-1] if end is None else end // hop - place
            if first < min(last, mels.shape[-1]):
                seconds = (place + np.arange(mels.shape[-1])) * hop / rate
                backing = mels[0] if loudness is None else mels[0] * loudness(seconds)
                self.level_meter.add(spread * mels[1, :, first:last], backing[:, first:last])
                self.sound_meter.add(block[1, (margin + first) * hop : (margin + last) * hop], rate)
            place += mels.shape[-1]
            for name, mel in zip(self.columns, mels, strict=True):
                self.columns[name].append(self.shrunk(mel).astype(np.float16))

    def shrunk(self, mel: np.ndarray) -> np.ndarray:
        """Levels of a picture's columns from frames (bands, frames), a whole number of frames each but for the last."""
        starts = np.arange(0, mel.shape[1], self.frames_per_column)
        means = np.add.reduceat(mel, starts, axis=1) / np.diff(np.append(starts, mel.shape[1]))
        return means**self.converter.params.power_for_image

    def pictures(self) -> dict[str, Image.Image]:
        """A picture a signal; one that is shrunk has no tags, because it can't be decoded."""
        params = self.converter.params
        top = max(float(block.max()) for columns in self.columns.values() for block in columns)
        black = top ** (1 / params.power_for_image)
        pictures = {}
        for name, columns in self.columns.items():  # block by block: only pixels are ever there for the whole song
            pixels = [pixels_from_mel(block.astype(np.float32), top, power=1.0) for block in columns]
            pictures[name] = image_from_pixels(np.concatenate(pixels, axis=1)[None], params, black)
        if self.frames_per_column > 1:
            for picture in pictures.values():
                picture.getexif().clear()
        return pictures

    def analysis(self) -> StemAnalysis:
        """Was a new part painted, and what does it sound like?"""
        return StemAnalysis(self.level_meter.result(), *self.sound_meter.result())


def signed_mean(gains: np.ndarray) -> audio.Mix:
    """The mean of channels into which a mono signal came by `gains` (channels, 1), with their signs turned back."""
    if (gains >= 0).all():
        return audio.mean_of_channels
    return lambda block, rate: (block * np.sign(gains)).mean(axis=0)


def power_over_mean(gains: np.ndarray) -> float:
    """The rms of channels into which a mono signal came by `gains` (channels, 1), over that of their mean."""
    mean = float(np.abs(gains).mean())
    return float(np.sqrt((gains**2).mean())) / mean if mean else 1.0


def framed_blocks(song: Path, stem: Path, rate: int, hop: int, mix: audio.Mix) -> Iterator[tuple[np.ndarray, int]]:
    """Samples of `BLOCK_FRAMES` frames of both signals with those beside them, float32 (2, samples), as long as the
    shorter one lasts; and the number of frames that lie before the block's own. `mix` makes the stem mono."""
    blocks = (audio.mono_blocks(song, rate), audio.mono_blocks(stem, rate, mix=mix))
    sources = [audio.fixed_blocks(each, BLOCK_FRAMES * hop) for each in blocks]
    margin = CONTEXT_FRAMES * hop
    before = held = np.zeros((2, 0), dtype=np.float32)
    for parts in zip(*sources, strict=False):
        samples = min(map(len, parts))
        block = np.stack([part[:samples] for part in parts])
        if held.size:
            yield np.concatenate([before, held, block[:, :margin]], axis=1), before.shape[1] // hop
            before = held[:, -margin:]
        held = block
    yield np.concatenate([before, held], axis=1), before.shape[1] // hop
