"""A song as a row of windows that overlap: where they lie, how they blend, and on what scale each is drawn."""

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

    def joints(self) -> list[int]:
        """Where each window's share begins: the middle of what it has in common with the one before, and the end."""
        middles = [(start + before + self.width) // 2 for before, start in itertools.pairwise(self.starts)]
        return [0, *middles, self.total]


def lay_windows(total: int, width: int) -> Canvas:
    """As few windows as overlap by `OVERLAP`, evenly over `total`; one that begins at 0 if `total` is no wider."""
    most = width - int(np.ceil(OVERLAP * width))
    count = 1 + max(0, -(-(total - width) // most))
    starts = np.linspace(0, max(total - width, 0), count).round().astype(int)
    return Canvas(tuple(starts.tolist()), width)


def hat(width: int) -> np.ndarray:
    """A window's weight in a blend, float32 (width,): most in its middle. Two windows cross-fade linearly."""
    ramp = np.arange(1, width + 1)
    return np.minimum(ramp, ramp[::-1]).astype(np.float32)


def blend_scales(canvas: Canvas, scales: list[float]) -> np.ndarray:
    """A value a window to one a place of the canvas, float32 (total,): its own where it is alone, between them a fade.

    What is at most every window's scale that shows it, is at most the blend there.
    """
    weight, sums, weights = hat(canvas.width), np.zeros(canvas.total), np.zeros(canvas.total)
    for start, scale in zip(canvas.starts, scales, strict=True):
        sums[start : start + canvas.width] += scale * weight
        weights[start : start + canvas.width] += weight
    return (sums / weights).astype(np.float32)
