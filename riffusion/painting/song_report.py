"""A whole song's pictures and measurements, however long it is."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soundfile
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


@dataclass(frozen=True, eq=False)
class StemLayout:
    """How a painted stem lies in a song, and where it is measured.

    It comes at `rate` Hz, in the song's channels by `gains` (channels, 1). It is measured from sample `start` to `end`
    of the mono song, at the model's rate (None: to its end): where it was to be painted. What counts there is the power
    of all channels: `loudness` tells their rms over that of the mono song, at some seconds of the song.
    """

    rate: int
    gains: np.ndarray
    start: int = 0
    end: int | None = None
    loudness: Callable[[np.ndarray], np.ndarray] = np.ones_like


class Overview:
    """Pictures of the input, the painted result and the stem on one scale, and what was measured of the edit.

    `song` is an open mono file at the model's sample rate; the stem comes block by block, as it is written.
    """

    def __init__(self, converter: SpectrogramConverter, song: soundfile.SoundFile, task: Task, layout: StemLayout):
        params, start, end = converter.params, layout.start, layout.end
        self.converter, self.song, self.loudness = converter, song, layout.loudness
        self.spread = power_over_mean(layout.gains)
        self.stem = audio.MonoStream(layout.rate, params.sample_rate, signed_mean(layout.gains))
        self.mixes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [float(task.keeps_input), float(task.sign)]])
        frames = song.frames // params.hop_length + 1
        self.start, self.end = start // params.hop_length, frames if end is None else end // params.hop_length
        self.frames_per_column = 1
        while frames > self.frames_per_column * MOST_COLUMNS:
            self.frames_per_column *= 2  # a block's frames are a whole number of columns
        self.columns: dict[str, list[np.ndarray]] = {"input": [], "stem": [], "painted": []}  # levels
        self.level_meter, self.sound_meter = LevelMeter(), SoundMeter()
        self.waiting = np.zeros((2, 0), dtype=np.float32)  # samples of song and stem, from `before` the next block on
        self.before = self.looked_at = 0  # frames

    def update(self, stem: np.ndarray) -> None:
        """Look at the next samples of the stem, float32 (channels, samples)."""
        self._add(self.stem.add(stem))
        self._look(following=CONTEXT_FRAMES)

    def finish(self) -> None:
        """Look at what is left, after the last samples."""
        self._add(self.stem.finish())
        self._look(following=0)
        self._measure(self.waiting)

    def _add(self, stem: np.ndarray) -> None:
        """Let the next mono samples (samples,) of the stem wait, at the model's rate, with those of the song.

        Resampling rounds lengths: the shorter of the two counts.
        """
        song = self.song.read(len(stem), dtype="float32")
        self.waiting = np.concatenate([self.waiting, np.stack([song, stem[: len(song)]])], axis=1)

    def _look(self, following: int) -> None:
        """Look at all blocks that so many frames follow."""
        hop = self.converter.params.hop_length
        while self.waiting.shape[1] > (self.before + BLOCK_FRAMES + following) * hop:
            self._measure(self.waiting[:, : (self.before + BLOCK_FRAMES + CONTEXT_FRAMES) * hop])
            self.waiting = self.waiting[:, (self.before + BLOCK_FRAMES - CONTEXT_FRAMES) * hop :]
            self.before = CONTEXT_FRAMES

    def _measure(self, block: np.ndarray) -> None:
        """Draw and measure the next `BLOCK_FRAMES` of song and stem, (2, samples), with those beside them."""
        rate, hop, before = self.converter.params.sample_rate, self.converter.params.hop_length, self.before
        mels = self.converter.mel_amplitudes_from_waveform(torch.from_numpy(block), self.mixes).cpu().numpy()
        mels = mels[..., before : before + BLOCK_FRAMES]
        first, last = max(self.start - self.looked_at, 0), self.end - self.looked_at
        if first < min(last, mels.shape[-1]):
            seconds = (self.looked_at + np.arange(mels.shape[-1])) * hop / rate
            backing = mels[0] * self.loudness(seconds)
            self.level_meter.add(self.spread * mels[1, :, first:last], backing[:, first:last])
            self.sound_meter.add(block[1, (before + first) * hop : (before + last) * hop], rate)
        self.looked_at += mels.shape[-1]
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
        max_value = top ** (1 / params.power_for_image)
        pictures = {}
        for name, columns in self.columns.items():  # block by block: only pixels are ever there for the whole song
            pixels = [pixels_from_mel(block.astype(np.float32), top, power=1.0) for block in columns]
            pictures[name] = image_from_pixels(np.concatenate(pixels, axis=1)[None], params, max_value)
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
