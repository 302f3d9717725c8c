"""Training examples: a pair, its noise, its timestep and what of its condition is dropped, all from one position."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset


class TrainingExamples(Dataset):
    """Everything random about an example follows from its position in the run.

    Position p is example p of an endless shuffled run over the pairs; the same seed and position give the same pair,
    noise, timestep and dropout, whatever the number of processes and wherever the run was resumed.
    """

    def __init__(
        self,
        sources: Sequence[Sequence],
        shape: tuple[int, int, int],
        timesteps: int,
        dropout: float,
        seed: int,
        shift: float = 1.0,
    ):
        self.sources = sources  # each gives named tensors of a pair
        self.pairs = len(sources[0])
        self.shape = shape  # of a latent: (channels, height, width)
        self.timesteps = timesteps
        self.dropout = dropout
        self.seed = seed
        self.shift = shift  # of the timesteps; above 1 there is more noise
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
        section 3.2.1: text alone, picture alone and both, each with probability `dropout`.
        """
        pair = self.pair_at(position)
        random = np.random.default_rng([self.seed, 1, position])
        sample_noise = random.standard_normal(self.shape, dtype=np.float32)
        noise = random.standard_normal(self.shape, dtype=np.float32)
        draw = random.random()
        drawn = {
            "sample_noise": torch.from_numpy(sample_noise),
            "noise": torch.from_numpy(noise),
            "timestep": torch.tensor(self.shifted(int(random.integers(self.timesteps)))),
            "offset": torch.from_numpy(random.standard_normal((self.shape[0], 1, 1), dtype=np.float32)),
            "keep_text": torch.tensor(draw >= 2 * self.dropout),
            "keep_image": torch.tensor(not self.dropout <= draw < 3 * self.dropout),
        }
        for source in self.sources:
            drawn |= source[pair]
        return drawn

    def shifted(self, timestep: int) -> int:
        """A timestep drawn evenly, moved towards more noise by `shift`: arXiv 2403.03206, section 5.3.2."""
        place = (timestep + 0.5) / self.timesteps
        return int(self.timesteps * self.shift * place / (1 + (self.shift - 1) * place))
