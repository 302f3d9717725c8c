"""Pictures encoded once: latents on disk, and the training examples drawn from them."""

import hashlib
import shutil
from pathlib import Path

import datasets
import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from riffusion import report

ENCODE_BATCH = 2  # pictures at a time: more is slower on a CPU, whose cache they leave


def pixels_to_tensor(image: Image.Image) -> Tensor:
    """A picture as the autoencoder takes it: float32 (3, height, width) in [-1, 1]."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1


def fingerprint(pairs: datasets.Dataset, columns: tuple[str, str], vae: AutoencoderKL) -> str:
    """Names the latents of these pairs under this autoencoder: another picture or weight gives another name."""
    digest = hashlib.sha256(repr((pairs._fingerprint, len(pairs), columns)).encode())
    for name, weight in sorted(vae.state_dict().items()):
        digest.update(name.encode() + weight.cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def cache_latents(
    pairs: datasets.Dataset, columns: tuple[str, str], vae: AutoencoderKL, folder: Path
) -> dict[str, np.ndarray]:
    """Encode both pictures of every pair, or open what an earlier run encoded.

    Returns memory-mapped float16 arrays (pairs, channels, height, width): `original` is the mode of the first
    column's posterior, unscaled, as InstructPix2Pix conditions on; `edited_mean` and `edited_std` belong to the
    second column's, so that sampling from it stays random.
    """
    folder = folder / f"latents-{fingerprint(pairs, columns, vae)}"
    if not folder.is_dir():
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        report.make_folder(part)
        arrays: dict[str, np.memmap] = {}
        for first in tqdm(range(0, len(pairs), ENCODE_BATCH), desc="encoding pictures", unit="batch"):
            rows = pairs[first : first + ENCODE_BATCH]
            original = vae.encode(_batch(rows[columns[0]], vae)).latent_dist
            edited = vae.encode(_batch(rows[columns[1]], vae)).latent_dist
            encoded = {"original": original.mode(), "edited_mean": edited.mean, "edited_std": edited.std}
            for name, latents in encoded.items():
                if name not in arrays:
                    shape = (len(pairs), *latents.shape[1:])
                    arrays[name] = np.lib.format.open_memmap(part / f"{name}.npy", "w+", np.float16, shape)
                arrays[name][first : first + len(latents)] = latents.cpu().numpy()
        for array in arrays.values():
            array.flush()
        part.rename(folder)
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}


def _batch(images: list[Image.Image], vae: AutoencoderKL) -> Tensor:
    return torch.stack([pixels_to_tensor(image) for image in images]).to(vae.device, vae.dtype)


class TrainingExamples(Dataset):
    """Everything random about an example follows from its position in the run.

    Position p is example p of an endless shuffled run over the pairs; the same seed and position give the same pair,
    noise, timestep and dropout, whatever the number of processes and wherever the run was resumed.
    """

    def __init__(self, latents: dict[str, np.ndarray], token_ids: Tensor, timesteps: int, dropout: float, seed: int):
        self.latents = latents
        self.token_ids = token_ids  # (pairs, tokens)
        self.timesteps = timesteps
        self.dropout = dropout
        self.seed = seed
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0))  # epoch and its shuffled pairs

    def pair_at(self, position: int) -> int:
        """Which pair stands at a position: every epoch has its own order."""
        epoch, place = divmod(position, len(self.token_ids))
        if self.order[0] != epoch:
            self.order = (epoch, np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.token_ids)))
        return int(self.order[1][place])

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        """`original`, `edited`, `noise` (channels, height, width), `timestep`, `token_ids`, `keep_text`, `keep_image`.

        The condition is dropped as in InstructPix2Pix, section 3.2.1: text alone, picture alone and both, each with
        probability `dropout`.
        """
        pair = self.pair_at(position)
        random = np.random.default_rng([self.seed, 1, position])
        mean = self.latents["edited_mean"][pair].astype(np.float32)
        sampled = mean + self.latents["edited_std"][pair] * random.standard_normal(mean.shape, dtype=np.float32)
        noise = random.standard_normal(mean.shape, dtype=np.float32)
        draw = random.random()
        return {
            "original": torch.from_numpy(self.latents["original"][pair].astype(np.float32)),
            "edited": torch.from_numpy(sampled),
            "noise": torch.from_numpy(noise),
            "timestep": torch.tensor(random.integers(self.timesteps)),
            "token_ids": self.token_ids[pair],
            "keep_text": torch.tensor(draw >= 2 * self.dropout),
            "keep_image": torch.tensor(not self.dropout <= draw < 3 * self.dropout),
        }
