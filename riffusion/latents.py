"""What the frozen parts of a model make of a pair: latents of its pictures, states of its instruction."""

import hashlib
from dataclasses import dataclass
from functools import partial

import datasets
import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import CLIPTextModel, CLIPTokenizer

from riffusion.cache import Cache
from riffusion.dataset import identify_picture, undecoded
from riffusion.image import CHANGED_GREY, colours
from riffusion.model import Parts
from riffusion.picture_file import read_picture

PICTURES_AT_ONCE = {"cpu": 2, "cuda": 16}  # more is slower on a CPU, whose cache they leave
TEXTS_AT_ONCE = 32


@dataclass(frozen=True)
class Columns:
    """Where a dataset has its input picture, the picture to learn and the instruction."""

    original: str = "original_image"
    edited: str = "edited_image"
    prompt: str = "edit_prompt"


class Pictures(Dataset):
    """One column's pictures, read when they are asked for: uint8 (3, height, width)."""

    def __init__(self, pairs: datasets.Dataset, column: str):
        self.pairs = undecoded(pairs, column)
        self.column = column

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, pair: int) -> Tensor:
        return picture_pixels(read_picture(self.pairs[pair][self.column], f"pair {pair}, {self.column}"))


class PairPictures(Dataset):
    """Both pictures of each pair, read when they are asked for: `original_pixels` and `edited_pixels`."""

    def __init__(self, pairs: datasets.Dataset, columns: Columns):
        self.originals = Pictures(pairs, columns.original)
        self.edits = Pictures(pairs, columns.edited)

    def __len__(self) -> int:
        return len(self.originals)

    def __getitem__(self, pair: int) -> dict[str, Tensor]:
        return {"original_pixels": self.originals[pair], "edited_pixels": self.edits[pair]}


def picture_pixels(image: Image.Image) -> Tensor:
    """A picture's pixels, uint8 (3, height, width); what is transparent is white."""
    return torch.from_numpy(np.array(colours(image))).permute(2, 0, 1)


def encode_originals(vae: AutoencoderKL, pixels: Tensor) -> dict[str, Tensor]:
    """`original` (B, C, h, w): the posterior's mode, unscaled, as InstructPix2Pix conditions on it."""
    return {"original": vae.encode(_autoencoder_input(vae, pixels)).latent_dist.mode()}


def encode_edits(vae: AutoencoderKL, pixels: Tensor) -> dict[str, Tensor]:
    """`edited_mean` and `edited_std` (B, C, h, w) of the posterior, from which every look at a pair draws anew."""
    posterior = vae.encode(_autoencoder_input(vae, pixels)).latent_dist
    return {"edited_mean": posterior.mean, "edited_std": posterior.std}


def _autoencoder_input(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    return pixels.to(vae.device, vae.dtype) / 127.5 - 1


def encode_changes(batch: dict[str, Tensor], target: str, factor: int) -> dict[str, Tensor]:
    """`changed` (B, h, w): the share of each latent cell's pixels, `factor` wide and high, where the pair differs.

    The edited picture of a mix is compared with the original, that of a stem with silence, which is white.
    """
    edited = batch["edited_pixels"].float()
    before = batch["original_pixels"].float() if target == "mix" else torch.full_like(edited, 255)
    changed = ((edited - before).abs().amax(dim=1) >= CHANGED_GREY).float()
    return {"changed": nn.functional.avg_pool2d(changed, factor)}


def encode_texts(text_encoder: CLIPTextModel, token_ids: Tensor) -> dict[str, Tensor]:
    """`text` (B, tokens, width): the text encoder's states of token ids (B, tokens)."""
    return {"text": text_encoder(token_ids.to(text_encoder.device))[0]}


def tokenize(parts: Parts, texts: list[str]) -> Tensor:
    """Token ids (texts, tokens), cut or padded to the tokenizer's length."""
    return parts.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def unread_text(tokenizer: CLIPTokenizer, text: str) -> str:
    """What of a text lies beyond the tokenizer's length, "" if nothing does."""
    tokens = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    return tokenizer.decode(tokens[tokenizer.model_max_length - 2 :])  # one for the beginning, one for the end


def latent_shape(vae: AutoencoderKL, picture: Image.Image) -> tuple[int, int, int]:
    """A picture's latent: (channels, height, width)."""
    factor = latent_factor(vae)
    return vae.config.latent_channels, picture.height // factor, picture.width // factor


def latent_factor(vae: AutoencoderKL) -> int:
    """Pixels that a latent cell is wide and high."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def picture_sources(
    pairs: datasets.Dataset, columns: Columns, vae: AutoencoderKL, changes: str | None, cache: Cache | None
) -> list:
    """Latents of both pictures of each pair, encoded once, or without a cache the pictures themselves.

    With the pairs' target as `changes`, it is also cached where each pair differs.
    """
    pictures = PairPictures(pairs, columns)
    if cache is None:
        return [pictures]
    size = PICTURES_AT_ONCE.get(vae.device.type, 2)
    originals, edits = (picture_keys(pairs, column) for column in (columns.original, columns.edited))
    sources = [
        cache.rows("originals", pictures.originals, originals, partial(encode_originals, vae), vae, size),
        cache.rows("edits", pictures.edits, edits, partial(encode_edits, vae), vae, size),
    ]
    if changes is not None:
        factor = latent_factor(vae)
        keys = [f"{changes} {factor} {both}" for both in zip(originals, edits, strict=True)]
        run = partial(encode_changes, target=changes, factor=factor)
        sources.append(cache.rows("changes", pictures, keys, run, None, size))
    return sources


def text_sources(token_ids: Tensor, text_encoder: CLIPTextModel, cache: Cache | None) -> list:
    """The text encoder's states of each instruction (pairs, tokens), or without a cache its token ids."""
    if cache is None:
        return [[{"token_ids": ids} for ids in token_ids]]
    keys = [hashlib.sha256(ids.numpy().tobytes()).hexdigest() for ids in token_ids]
    return [cache.rows("texts", token_ids, keys, partial(encode_texts, text_encoder), text_encoder, TEXTS_AT_ONCE)]


def picture_keys(pairs: datasets.Dataset, column: str) -> list[str]:
    """What tells one picture of a column from another, hexadecimal. Raises UserError if a file is missing."""
    return [hashlib.sha256(identify_picture(row[column])[1]).hexdigest() for row in undecoded(pairs, column)]
