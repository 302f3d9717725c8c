"""Training examples: a pair, its noise, its timestep and what of its condition is dropped, all from one position."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from riffusion.util.errors import UserError

CROPPED = ("original", "edited_mean", "edited_std", "changed", "original_pixels", "edited_pixels")  # (..., width)


@dataclass(frozen=True)
class Draws:
    """How the random things of an example are drawn; as it stands, evenly and without dropout."""

    text_dropout: float = 0.0  # probability that text alone is dropped
    image_dropout: float = 0.0  # that the picture alone is
    both_dropout: float = 0.0
    shift: float = 1.0  # of the timesteps; above 1 there is more noise
    shift_share: float = 1.0  # of the examples that it holds for
    strata: int = 1  # so many examples in a row have timesteps evenly apart
    crop: int | None = None  # columns of latents that are cut out, all by default


def crop_columns(frames: int | None, factor: int, columns: int) -> int | None:
    """A crop of so many frames in columns of latents, `factor` frames each; none for none.

    Raises UserError if it isn't a whole number of columns, or wider than a picture's `columns`.
    """
    if frames is None:
        return None
    if frames % factor or not factor <= frames <= columns * factor:
        raise UserError(f"--crop_frames {frames} must be a multiple of {factor}, {columns * factor} at most")
    return frames // factor


class TrainingExamples(Dataset):
    """Everything random about an example follows from its position in the run.

    Position p is example p of an endless shuffled run over the pairs; the same seed and position give the same pair,
    noise, timestep and dropout, whatever the number of processes and wherever the run was resumed.
    """

    def __init__(
        self, sources: Sequence[Sequence], shape: tuple[int, int, int], timesteps: int, seed: int, draws: Draws
    ):
        self.sources = sources  # each gives named tensors of a pair
        self.pairs = len(sources[0])
        self.shape = shape  # of a whole picture's latent: (channels, height, width)
        self.timesteps = timesteps
        self.seed = seed
        self.draws = draws
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0))  # epoch and its shuffled pairs

    def pair_at(self, position: int) -> int:
        """Which pair stands at a position: every epoch has its own order."""
        epoch, place = divmod(position, self.pairs)
        if self.order[0] != epoch:
            self.order = (epoch, np.random.default_rng([self.seed, 0, epoch]).permutation(self.pairs))
        return int(self.order[1][place])

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        """What the sources give, and `sample_noise`, `noise`, `offset`, `timestep`, `keep_text`, `keep_image`.

        `sample_noise` draws the edited picture's latents from their posterior, `noise` (channels, height, width) and
        its `offset` (channels, 1, 1) are what the UNet sees through. The condition is dropped as in InstructPix2Pix,
        section 3.2.1: text alone, picture alone or both. With a crop everything is as many columns wide.
        """
        pair, draws = self.pair_at(position), self.draws
        random = np.random.default_rng([self.seed, 1, position])
        shape = (*self.shape[:2], draws.crop or self.shape[2])
        sample_noise = random.standard_normal(shape, dtype=np.float32)
        noise = random.standard_normal(shape, dtype=np.float32)
        draw = random.random()
        timestep = self.spread(int(random.integers(self.timesteps)), position)
        offset = random.standard_normal((self.shape[0], 1, 1), dtype=np.float32)
        if random.random() < draws.shift_share:
            timestep = self.shifted(timestep)
        first_both, first_image = draws.text_dropout, draws.text_dropout + draws.both_dropout
        drawn = {
            "sample_noise": torch.from_numpy(sample_noise),
            "noise": torch.from_numpy(noise),
            "timestep": torch.tensor(timestep),
            "offset": torch.from_numpy(offset),
            "keep_text": torch.tensor(draw >= first_image),
            "keep_image": torch.tensor(not first_both <= draw < first_image + draws.image_dropout),
        }
        for source in self.sources:
            drawn |= source[pair]
        return self.cropped(drawn, random.random())

    def spread(self, timestep: int, position: int) -> int:
        """A timestep drawn evenly, moved into the stratum of this position: each is once in a row of `strata`."""
        block, place = divmod(position, self.draws.strata)
        stratum = int(np.random.default_rng([self.seed, 2, block]).permutation(self.draws.strata)[place])
        return (stratum * self.timesteps + timestep) // self.draws.strata

    def shifted(self, timestep: int) -> int:
        """A timestep drawn evenly, moved towards more noise by `shift`: arXiv 2403.03206, section 5.3.2."""
        place, shift = (timestep + 0.5) / self.timesteps, self.draws.shift
        return int(self.timesteps * shift * place / (1 + (shift - 1) * place))

    def cropped(self, drawn: dict[str, Tensor], place: float) -> dict[str, Tensor]:
        """The example with `crop` columns of its latents or the pixels there, at a place from 0 to 1."""
        if self.draws.crop is None:
            return drawn
        width = self.shape[2]
        start = int(place * (width - self.draws.crop + 1))
        for name in CROPPED:
            if name in drawn:
                cell = drawn[name].shape[-1] // width  # 1, or the pixels of a latent
                drawn[name] = drawn[name][..., start * cell : (start + self.draws.crop) * cell]
        return drawn
