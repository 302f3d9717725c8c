"""Painting: the InstructPix2Pix sampler on pictures and instructions, with its noise tied to each sample's name."""

import zlib
from dataclasses import dataclass

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from riffusion.model import ModelFacts


@dataclass(frozen=True)
class Settings:
    """How to sample. The scales are those of InstructPix2Pix, section 3.2.1."""

    guidance_scale: float
    image_guidance_scale: float
    num_inference_steps: int
    seed: int


def choose_settings(
    facts: ModelFacts, guidance_scale: float | None, image_guidance_scale: float | None, steps: int, seed: int
) -> Settings:
    """The model's own guidance where none is given."""
    return Settings(
        guidance_scale=facts.guidance_scale if guidance_scale is None else guidance_scale,
        image_guidance_scale=facts.image_guidance_scale if image_guidance_scale is None else image_guidance_scale,
        num_inference_steps=steps,
        seed=seed,
    )


def sample_generator(seed: int, name: str) -> torch.Generator:
    """The noise source of one sample: it depends on the seed and the name alone, not on order or batch."""
    return torch.Generator().manual_seed((seed << 32) + zlib.crc32(name.encode()))


def edit_images(
    pipeline: StableDiffusionInstructPix2PixPipeline,
    originals: list[Image.Image],
    prompts: list[str],
    names: list[str],
    settings: Settings,
) -> list[Image.Image]:
    """Edit equally large pictures by one instruction each; grey pictures come back, as large as they went in."""
    padded = [_pad(image, pipeline) for image in originals]
    edited = pipeline(
        prompts,
        image=padded,
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        image_guidance_scale=settings.image_guidance_scale,
        generator=[sample_generator(settings.seed, name) for name in names],
    ).images
    return [image.convert("L").crop((0, 0, *old.size)) for image, old in zip(edited, originals, strict=True)]


@torch.no_grad()
def reconstruct_images(
    pipeline: StableDiffusionInstructPix2PixPipeline, images: list[Image.Image]
) -> list[Image.Image]:
    """Grey pictures through the autoencoder alone: what the model makes of them when it changes nothing."""
    pixels = pipeline.image_processor.preprocess([_pad(image, pipeline) for image in images])
    latents = pipeline.vae.encode(pixels.to(pipeline.device, pipeline.vae.dtype)).latent_dist.mode()
    decoded = pipeline.image_processor.postprocess(pipeline.vae.decode(latents).sample)
    return [image.convert("L").crop((0, 0, *old.size)) for image, old in zip(decoded, images, strict=True)]


def _pad(image: Image.Image, pipeline: StableDiffusionInstructPix2PixPipeline) -> Image.Image:
    """White (silence) to the right and below, up to a multiple of what the model's layers halve."""
    multiple = pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.down_block_types) - 1)
    width, height = (-(-side // multiple) * multiple for side in image.size)
    padded = Image.new("RGB", (width, height), "white")
    padded.paste(image.convert("RGB"))
    return padded
