"""A song as a row of windows that overlap: where they lie, and how they blend."""

import itertools
from dataclasses import dataclass

import numpy as np

OVERLAP = 0.25  # of a window, at least, that it shares with the next


@dataclass(frozen=True)
class Canvas:
    """Windows of one width over a canvas, in whatever unit: columns of latents, frames or samples."""

    starts: tuple[int, ...]
    width: int  # of a window

    @property
    def total(self) -> int:
        """Width of the canvas."""
        return self.starts[-1] + self.width

    def scaled(self, factor: int) -> "Canvas":
        """The same canvas in a unit `factor` times as fine."""
        return Canvas(tuple(start * factor for start in self.starts), self.width * factor)

    def seams(self) -> list[int]:
        """Where one window's share ends and the next one's begins: the middles of their overlaps, and both ends."""
        middles = [(start + before + self.width) // 2 for before, start in itertools.pairwise(self.starts)]
        return [0, *middles, self.total]


def tile(total: int, width: int) -> Canvas:
    """As few windows as overlap by `OVERLAP`, evenly over `total`; one that begins at 0 if `total` is no wider."""
    longest_step = width - int(np.ceil(OVERLAP * width))
    count = 1 + max(0, -(-(total - width) // longest_step))
    starts = np.linspace(0, max(total - width, 0), count).round().astype(int)
    return Canvas(tuple(starts.tolist()), width)


def triangular_window(width: int) -> np.ndarray:
    """A window's weight in a blend, float32 (width,): largest in its middle. Two windows cross-fade linearly."""
    ramp = np.arange(1, width + 1)
    return np.minimum(ramp, ramp[::-1]).astype(np.float32)


class LevelBlend:
    """Levels, one per window, blended into one per place of a canvas by triangular weights.

    It is never below what all windows that cover a place are above. Windows are added from the first one on.
    """

    def __init__(self, canvas: Canvas):
        self.canvas, self.weight = canvas, triangular_window(canvas.width)
        self.sums, self.weights = np.zeros(canvas.total), np.zeros(canvas.total)

    def add(self, start: int, level: float) -> None:
        """Blend in the level of the window that begins at `start`."""
        self.sums[start : start + self.canvas.width] += level * self.weight
        self.weights[start : start + self.canvas.width] += self.weight

    def levels(self, start: int = 0, end: int | None = None) -> np.ndarray:
        """The levels of places whose windows have all been added, float32 (end - start,)."""
        return (self.sums[start:end] / self.weights[start:end]).astype(np.float32)
