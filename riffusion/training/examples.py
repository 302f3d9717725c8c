"""Training examples: a pair, its noise, its timestep and which conditions are dropped, all from one position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from torch.utils.data import Dataset

from riffusion.diffusion.batch import Batch
from riffusion.util.errors import UserError

Cropped = Literal["original", "edited_mean", "edited_std", "changed", "original_pixels", "edited_pixels"]
CROPPED: tuple[Cropped, ...] = get_args(Cropped)  # what has the picture's width for its last dimension


class Source(Protocol):
    """One part of every pair's example, such as the latents of its input picture; keys and shapes as in `Batch`."""

    def __len__(self) -> int:
        """The number of pairs."""

    def __getitem__(self, pair: int, /) -> Batch:
        """The part of one pair."""


@dataclass(frozen=True)
class Draws:
    """How an example's random values are drawn; by default uniformly, without dropout."""

    text_dropout: float = 0.0  # probability of dropping the text alone
    image_dropout: float = 0.0  # probability of dropping the picture alone
    both_dropout: float = 0.0  # probability of dropping both
    shift: float = 1.0  # of the timesteps; above 1 there is more noise
    shift_share: float = 1.0  # share of the examples whose timesteps are shifted
    strata: int = 1  # consecutive examples whose timesteps are one from each of as many equal ranges
    crop: int | None = None  # columns of latents to train on; None: all


def crop_columns(frames: int | None, factor: int, columns: int) -> int | None:
    """The width of a crop in columns of latents, `factor` frames each; None for no crop.

    Raises UserError if it isn't a whole number of columns, or wider than a picture's `columns`.
    """
    if frames is None:
        return None
    if frames % factor or not factor <= frames <= columns * factor:
        raise UserError(f"--crop_frames {frames} must be a multiple of {factor}, {columns * factor} at most")
    return frames // factor


class TrainingExamples(Dataset):
    """Everything random about an example follows from its position in the run.

    Position p is example p of an endless sequence of epochs, each in its own random order; the same seed and position
    give the same pair, noise, timestep and dropout, whatever the number of processes and wherever the run was resumed.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        shape: tuple[int, int, int],
        timesteps: int,
        seed: int = 0,
        draws: Draws = Draws(),  # noqa: B008 (it is frozen)
    ):
        self.sources = sources
        self.pairs = len(sources[0])
        self.shape = shape  # of a whole picture's latents: (channels, height, width)
        self.timesteps = timesteps
        self.seed = seed
        self.draws = draws
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0))  # epoch and its shuffled pairs

    def pair_at(self, position: int) -> int:
        """The pair at a position: every epoch has its own order."""
        epoch, index = divmod(position, self.pairs)
        if self.order[0] != epoch:
            self.order = (epoch, np.random.default_rng([self.seed, 0, epoch]).permutation(self.pairs))
        return int(self.order[1][index])

    def __getitem__(self, position: int) -> Batch:
        """An example without the batch's dimension: the sources' parts and the random values.

        Conditions are dropped as in InstructPix2Pix, section 3.2.1: text alone, picture alone or both. With a crop
        latents and pixels are as many columns of latents wide.
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
        example: Batch = {
            "sample_noise": torch.from_numpy(sample_noise),
            "noise": torch.from_numpy(noise),
            "timestep": torch.tensor(timestep),
            "offset": torch.from_numpy(offset),
            "keep_text": torch.tensor(draw >= first_image),
            "keep_image": torch.tensor(not first_both <= draw < first_image + draws.image_dropout),
        }
        for source in self.sources:
            example |= source[pair]
        return self.cropped(example, random.random())

    def spread(self, timestep: int, position: int) -> int:
        """A uniform timestep, mapped into the stratum of this position: `strata` positions in a row have one each."""
        block, index = divmod(position, self.draws.strata)
        stratum = int(np.random.default_rng([self.seed, 2, block]).permutation(self.draws.strata)[index])
        return (stratum * self.timesteps + timestep) // self.draws.strata

    def shifted(self, timestep: int) -> int:
        """A uniform timestep, moved towards more noise by `shift`: arXiv 2403.03206, section 5.3.2."""
        level, shift = (timestep + 0.5) / self.timesteps, self.draws.shift
        return int(self.timesteps * shift * level / (1 + (shift - 1) * level))

    def cropped(self, example: Batch, offset: float) -> Batch:
        """The example with `crop` columns of its latents or pixels, from the leftmost (offset 0) to the last (1)."""
        if self.draws.crop is None:
            return example
        width = self.shape[2]
        start = int(offset * (width - self.draws.crop + 1))
        for name in CROPPED:
            if name in example:
                cell = example[name].shape[-1] // width  # 1, or a latent cell's width in pixels
                example[name] = example[name][..., start * cell : (start + self.draws.crop) * cell]
        return example
