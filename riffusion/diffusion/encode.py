"""What the frozen parts of a model make of a pair: latents of its pictures, states of its instruction."""

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from riffusion.diffusion.batch import Batch
from riffusion.image import CHANGED_GREY, colours


def picture_pixels(image: Image.Image) -> Tensor:
    """A picture's pixels, uint8 (3, height, width); what is transparent is white."""
    return torch.from_numpy(np.array(colours(image))).permute(2, 0, 1)


def encode_originals(vae: AutoencoderKL, pixels: Tensor) -> Batch:
    """`original` (B, C, h, w) of pixels (B, 3, H, W): the posterior's mode, unscaled, as InstructPix2Pix has it."""
    return {"original": vae.encode(_autoencoder_input(vae, pixels)).latent_dist.mode()}


def encode_edits(vae: AutoencoderKL, pixels: Tensor) -> Batch:
    """`edited_mean` and `edited_std` (B, C, h, w) of the posterior, from which each example draws its own latents."""
    posterior = vae.encode(_autoencoder_input(vae, pixels)).latent_dist
    return {"edited_mean": posterior.mean, "edited_std": posterior.std}


def _autoencoder_input(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    return pixels.to(vae.device, vae.dtype) / 127.5 - 1


def encode_changes(batch: Batch, target: str, factor: int) -> Batch:
    """`changed` (B, h, w): the share of each latent cell's pixels, `factor` wide and high, that the edit changes.

    `batch` has both pictures' pixels. The edited picture of a mix is compared with the original, that of a stem with
    silence, which is white.
    """
    edited = batch["edited_pixels"].float()
    before = batch["original_pixels"].float() if target == "mix" else torch.full_like(edited, 255)
    changed = ((edited - before).abs().amax(dim=1) >= CHANGED_GREY).float()
    return {"changed": nn.functional.avg_pool2d(changed, factor)}


def encode_texts(text_encoder: CLIPTextModel, token_ids: Tensor) -> Batch:
    """`text` (B, tokens, width): the text encoder's states of token ids (B, tokens)."""
    return {"text": text_encoder(token_ids.to(text_encoder.device))[0]}


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids (texts, tokens), cut or padded to the tokenizer's length."""
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def unread_text(tokenizer: CLIPTokenizer, text: str) -> str:
    """The end of a text that lies beyond the tokenizer's length, "" if all of it fits."""
    tokens = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    return tokenizer.decode(tokens[tokenizer.model_max_length - 2 :])  # one for the beginning, one for the end


def latent_shape(vae: AutoencoderKL, picture: Image.Image) -> tuple[int, int, int]:
    """A picture's latent: (channels, height, width)."""
    factor = latent_factor(vae)
    return vae.config.latent_channels, picture.height // factor, picture.width // factor


def latent_factor(vae: AutoencoderKL) -> int:
    """Width and height of a latent's cell in pixels."""
    return 2 ** (len(vae.config.block_out_channels) - 1)
