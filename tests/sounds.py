"""Synthetic sounds whose right answer is known."""

import numpy as np
from conftest import RATE

SECONDS = 3.0
TIME = np.arange(round(SECONDS * RATE)) / RATE


def voice(pitch: float, overtones: int = 30) -> np.ndarray:
    """A harmonic stack with a vibrato of 60 cents at 5.5 Hz."""
    phase = 2 * np.pi * np.cumsum(pitch * 2 ** (0.6 / 12 * np.sin(2 * np.pi * 5.5 * TIME))) / RATE
    stack = sum(np.sin(k * phase) / k for k in range(1, overtones) if k * pitch < 9500)
    return (0.1 * stack).astype(np.float32)


def whistles(pitch: float, seed: int = 0) -> np.ndarray:
    """A loud line and eight others that have nothing to do with it."""
    lines = np.random.default_rng(seed).uniform(300, 5000, 8)
    unrelated = sum(0.03 * np.sin(2 * np.pi * line * TIME) for line in lines)
    return (voice(pitch, overtones=2) + unrelated).astype(np.float32)


def noise() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(len(TIME))).astype(np.float32)


def hits(every: float, length: float) -> np.ndarray:
    """Bursts of noise that begin at once and die away, or swell if they are long."""
    sound = np.zeros_like(TIME)
    for start in np.arange(0.25, SECONDS - 0.3, every):
        since = TIME - start
        sound += np.where(since >= 0, np.exp(-since / 0.04), 0) if length == 0 else np.exp(-((since / length) ** 2))
    return (sound * noise()).astype(np.float32)


def bass_line() -> np.ndarray:
    steps = (55.0, 65.4, 82.4, 73.4, 55.0, 61.7)
    notes = [np.exp(-3 * TIME[: RATE // 2]) for _ in steps]
    sounds = [
        note * sum(np.sin(2 * np.pi * k * pitch * TIME[: RATE // 2]) / k**2 for k in range(1, 7))
        for note, pitch in zip(notes, steps, strict=True)
    ]
    return (0.3 * np.concatenate(sounds)).astype(np.float32)
