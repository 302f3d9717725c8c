"""Painting: the InstructPix2Pix sampler on pictures and instructions, with its noise tied to each sample's name."""

import zlib
from dataclasses import dataclass

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image


@dataclass(frozen=True)
class Settings:
    """How to sample. The scales are those of InstructPix2Pix, section 3.2.1."""

    guidance_scale: float = 15.0
    image_guidance_scale: float = 1.5
    num_inference_steps: int = 20
    seed: int = 0


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
    size = pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.down_block_types) - 1)
    padded = [_pad(image.convert("RGB"), size) for image in originals]
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
    pixels = pipeline.image_processor.preprocess([image.convert("RGB") for image in images])
    latents = pipeline.vae.encode(pixels.to(pipeline.device, pipeline.vae.dtype)).latent_dist.mode()
    decoded = pipeline.image_processor.postprocess(pipeline.vae.decode(latents).sample)
    return [image.convert("L") for image in decoded]


def _pad(image: Image.Image, size: int) -> Image.Image:
    """White (silence) to the right and above, up to a multiple of what the model's layers halve."""
    width, height = (-(-side // size) * size for side in image.size)
    padded = Image.new("RGB", (width, height), "white")
    padded.paste(image)
    return padded
