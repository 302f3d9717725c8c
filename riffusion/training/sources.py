"""The parts of training examples: a dataset's pictures and instructions, or what the frozen parts make of them."""

import hashlib
from dataclasses import dataclass
from functools import partial

import datasets
from diffusers import AutoencoderKL
from torch import Tensor
from torch.utils.data import Dataset
from transformers import CLIPTextModel

from riffusion.diffusion.batch import Batch
from riffusion.diffusion.encode import (
    encode_changes,
    encode_edits,
    encode_originals,
    encode_texts,
    latent_factor,
    picture_pixels,
)
from riffusion.pairs.dataset import identify_picture, undecoded
from riffusion.pairs.picture_file import read_picture
from riffusion.training.cache import Cache
from riffusion.training.examples import Source

ORIGINALS, EDITS, CHANGES, TEXTS = CACHES = ("originals", "edits", "changes", "texts")  # begin names of cache folders
PICTURES_AT_ONCE = {"cpu": 1, "cuda": 16}  # more is slower on a CPU, whose cache they leave
TEXTS_AT_ONCE = 32


@dataclass(frozen=True)
class Columns:
    """The dataset's columns of the input picture, the picture to learn and the instruction."""

    original: str = "original_image"
    edited: str = "edited_image"
    prompt: str = "edit_prompt"


class ImageColumn(Dataset):
    """One column's pictures, read on access: uint8 (3, height, width)."""

    def __init__(self, pairs: datasets.Dataset, column: str):
        self.pairs = undecoded(pairs, column)
        self.column = column

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, pair: int) -> Tensor:
        return picture_pixels(read_picture(self.pairs[pair][self.column], f"pair {pair}, {self.column}"))


class PairImages(Dataset):
    """Both pictures of each pair, read on access: `original_pixels` and `edited_pixels`."""

    def __init__(self, pairs: datasets.Dataset, columns: Columns):
        self.originals = ImageColumn(pairs, columns.original)
        self.edits = ImageColumn(pairs, columns.edited)

    def __len__(self) -> int:
        return len(self.originals)

    def __getitem__(self, pair: int) -> Batch:
        return {"original_pixels": self.originals[pair], "edited_pixels": self.edits[pair]}


def picture_sources(
    pairs: datasets.Dataset, columns: Columns, vae: AutoencoderKL, cache: Cache | None, changes: str | None = None
) -> list[Source]:
    """Latents of both pictures of each pair, encoded once, or without a cache the pictures themselves.

    With the pairs' target as `changes`, the share of each latent cell that the edit changes is cached too.
    """
    images = PairImages(pairs, columns)
    if cache is None:
        return [images]
    size = PICTURES_AT_ONCE.get(vae.device.type, 2)
    original_keys, edit_keys = (picture_keys(pairs, column) for column in (columns.original, columns.edited))
    sources: list[Source] = [
        cache.rows(ORIGINALS, images.originals, original_keys, partial(encode_originals, vae), vae, size),
        cache.rows(EDITS, images.edits, edit_keys, partial(encode_edits, vae), vae, size),
    ]
    if changes is not None:
        factor = latent_factor(vae)
        keys = [f"{changes} {factor} {both}" for both in zip(original_keys, edit_keys, strict=True)]
        encode = partial(encode_changes, target=changes, factor=factor)
        sources.append(cache.rows(CHANGES, images, keys, encode, None, size))
    return sources


def text_sources(token_ids: Tensor, text_encoder: CLIPTextModel, cache: Cache | None) -> list[Source]:
    """The text encoder's states of each instruction (pairs, tokens), or without a cache its token ids."""
    if cache is None:
        return [[Batch(token_ids=ids) for ids in token_ids]]
    keys = [hashlib.sha256(ids.numpy().tobytes()).hexdigest() for ids in token_ids]
    return [cache.rows(TEXTS, token_ids, keys, partial(encode_texts, text_encoder), text_encoder, TEXTS_AT_ONCE)]


def picture_keys(pairs: datasets.Dataset, column: str) -> list[str]:
    """A hexadecimal digest of each picture of a column. Raises UserError if a file is missing."""
    return [hashlib.sha256(identify_picture(row[column])[1]).hexdigest() for row in undecoded(pairs, column)]
