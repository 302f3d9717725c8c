"""Songs in stems all in memory, as benchmarks and tests want them; what is shipped reads them block by block."""

import numpy as np

from riffusion import audio
from riffusion.pairs.stems import BLOCK_SAMPLES, Song, mixtures, open_stems


def load_stems(song: Song, sample_rate: int = 44100) -> dict[str, np.ndarray]:
    """All stems of a song as {name: float32 (channels, samples)} at `sample_rate`, equally long.

    A stem that ends early is padded with silence; one that is the sum of others is left out. Raises UserError naming
    the song's file and what is wrong.
    """
    with audio.temporary_folder() as folder:
        stems = {name: audio.load_recording(recording, sample_rate)[0] for name, recording in open_stems(song, folder)}
    samples = max(stem.shape[1] for stem in stems.values())
    padded = {name: np.pad(stem, ((0, 0), (0, samples - stem.shape[1]))) for name, stem in stems.items()}
    mono = [stem.mean(axis=0) for stem in padded.values()]
    starts = range(0, samples, BLOCK_SAMPLES)
    left_out = mixtures(list(padded), (np.stack([part[at : at + BLOCK_SAMPLES] for part in mono]) for at in starts))
    return {name: stem for name, stem in padded.items() if name not in left_out}


def sum_stems(stems: dict[str, np.ndarray], without: str) -> np.ndarray:
    """The backing: all stems but one, float32 (channels, samples), mono stems in the middle."""
    channels = max(stem.shape[0] for stem in stems.values())
    others = [np.broadcast_to(stem, (channels, stem.shape[1])) for name, stem in stems.items() if name != without]
    return np.asarray(np.sum(others, axis=0, dtype=np.float32))
