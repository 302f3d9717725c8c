"""The InstructPix2Pix sampler on pictures and instructions, with its noise tied to each sample's name."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline as Pipeline
from diffusers.models.attention_processor import SlicedAttnProcessor
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from riffusion.diffusion.encode import encode_originals, encode_texts, latent_factor, picture_pixels, tokenize
from riffusion.diffusion.model import ModelFacts
from riffusion.diffusion.schedulers import DEFAULT_SCHEDULER, STOCHASTIC, make_scheduler
from riffusion.diffusion.windows import Canvas, hat
from riffusion.image import colours
from riffusion.util.errors import UserError


@dataclass(frozen=True)
class Settings:
    """How to sample. The scales are those of InstructPix2Pix, section 3.2.1."""

    guidance_scale: float
    image_guidance_scale: float
    num_inference_steps: int
    seed: int
    scheduler: str = DEFAULT_SCHEDULER
    guidance_rescale: float = 0.0  # from 0 to 1: arXiv 2305.08891, section 3.4
    guidance_interval: tuple[float, float] = (0.0, 1.0)  # share of the steps that are guided: arXiv 2404.07724
    negative_prompt: str = ""


def choose_settings(
    facts: ModelFacts,
    guidance_scale: float | None,
    image_guidance_scale: float | None,
    steps: int,
    seed: int,
    **others: Any,
) -> Settings:
    """The model's own guidance where none is given; `others` are the settings that don't depend on the model."""
    return Settings(
        guidance_scale=facts.guidance_scale if guidance_scale is None else guidance_scale,
        image_guidance_scale=facts.image_guidance_scale if image_guidance_scale is None else image_guidance_scale,
        num_inference_steps=steps,
        seed=seed,
        **others,
    )


def sample_generator(seed: int, name: str) -> torch.Generator:
    """The noise source of one sample: it depends on the seed and the name alone, not on order or batch.

    torch's generator takes the lower 32 bits of a seed and leaves the others out.
    """
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))


def edit_images(
    pipeline: Pipeline,
    originals: list[Image.Image],
    prompts: list[str],
    names: list[str],
    settings: Settings,
    progress: tqdm | None = None,
) -> list[Image.Image]:
    """Edit equally large pictures by one instruction each; grey pictures come back, as large as they went in.

    `progress` counts a denoising step of a picture.
    """
    conditions = encode_images(pipeline, originals)
    canvas = Canvas((0,), conditions.shape[-1])
    latents = sample(pipeline, conditions, prompts, names, settings, canvas, len(names), progress)
    width, height = originals[0].size
    pixels = [decoded[:height, :width] for latent in latents.split(1) for decoded in decode(pipeline, latent)]
    return [Image.fromarray(grey) for grey in pixels]


def reconstruct_images(pipeline: Pipeline, images: list[Image.Image]) -> list[Image.Image]:
    """Grey pictures through the autoencoder alone: what the model makes of them when it changes nothing."""
    conditions = encode_images(pipeline, images) * pipeline.vae.config.scaling_factor
    width, height = images[0].size
    pixels = [decoded[:height, :width] for latent in conditions.split(1) for decoded in decode(pipeline, latent)]
    return [Image.fromarray(grey) for grey in pixels]


@torch.no_grad()
def encode_images(pipeline: Pipeline, images: list[Image.Image]) -> Tensor:
    """What the UNet is conditioned on: equally large pictures to latents (B, C, h, w), float32.

    White (silence) is added to the right and below, up to a multiple of what the model's layers halve.
    """
    multiple = latent_factor(pipeline.vae) * 2 ** (len(pipeline.unet.config.down_block_types) - 1)
    width, height = (-(-side // multiple) * multiple for side in images[0].size)
    latents = []
    for image in images:
        padded = Image.new("RGB", (width, height), "white")
        padded.paste(colours(image))
        latents.append(encode_originals(pipeline.vae, picture_pixels(padded)[None])["original"].float())
    return torch.cat(latents)


@torch.no_grad()
def decode(pipeline: Pipeline, latents: Tensor) -> np.ndarray:
    """Latents (B, C, h, w) to grey pixels, uint8 (B, height, width), as PIL makes them of the decoder's colours."""
    vae = pipeline.vae
    decoded = vae.decode((latents / vae.config.scaling_factor).to(vae.device, vae.dtype)).sample.float()
    colours = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return np.stack([np.asarray(Image.fromarray(picture).convert("L")) for picture in colours])


@torch.no_grad()
def sample(
    pipeline: Pipeline,
    conditions: Tensor,
    prompts: list[str],
    names: list[str],
    settings: Settings,
    canvas: Canvas,
    batch_size: int,
    progress: tqdm | None = None,
) -> Tensor:
    """Edited latents (B, C, h, canvas.total) of B canvases, one a prompt and name.

    `conditions` (B * windows, C, h, canvas.width) show the input through every window of the first canvas, then of
    the second. All windows take a denoising step together and share what they predict where they overlap
    (MultiDiffusion, arXiv 2302.08113), so that neighbours agree; as many at once as `batch_size` says and the memory of
    the device holds. `progress` counts a step of a window.
    """
    device, scheduler = pipeline.unet.device, make_scheduler(pipeline.scheduler, settings.scheduler)
    shape = (conditions.shape[1], conditions.shape[2], canvas.total)
    generators = [sample_generator(settings.seed, name) for name in names]
    noise = [torch.randn(shape, generator=generator) for generator in generators]
    scheduler.set_timesteps(settings.num_inference_steps, device=device)
    latents = torch.stack(noise).to(device) * scheduler.init_noise_sigma
    texts = tokenize(pipeline.tokenizer, [*prompts, settings.negative_prompt])
    states = encode_texts(pipeline.text_encoder, texts)["text"].to(pipeline.unet.dtype)
    drawing = {"generator": generators} if settings.scheduler in STOCHASTIC else {}
    for step, time in enumerate(scheduler.timesteps):
        noisy = scheduler.scale_model_input(latents, time)
        branches = branch_weights(settings, step / len(scheduler.timesteps))
        predicted, counted = None, progress.n if progress is not None else 0
        while predicted is None:
            try:
                predicted = shared_prediction(
                    pipeline, noisy, time, conditions, states, canvas, batch_size, branches, settings, progress
                )
            except torch.OutOfMemoryError:
                if progress is not None:
                    progress.update(counted - progress.n)  # the windows of this step are predicted again
                batch_size = take_less_memory(pipeline, min(batch_size, len(conditions)))
        latents = scheduler.step(predicted, time, latents, **drawing).prev_sample
    return latents


def shared_prediction(
    pipeline: Pipeline,
    noisy: Tensor,
    time: Tensor,
    conditions: Tensor,
    states: Tensor,
    canvas: Canvas,
    batch_size: int,
    branches: list[float],
    settings: Settings,
    progress: tqdm | None,
) -> Tensor:
    """What is predicted of whole canvases (B, C, h, canvas.total): windows blend where they overlap.

    `noisy` is (B, C, h, canvas.total), `conditions` (B * windows, C, h, canvas.width), `states` (B + 1, tokens, width)
    are the texts' and, last, the negative or empty one's.
    """
    places = [(row, start) for row in range(len(noisy)) for start in canvas.starts]
    weight = torch.from_numpy(hat(canvas.width)).to(noisy.device)
    sums, weights = torch.zeros_like(noisy), torch.zeros_like(noisy[:, 0, 0])
    for first in range(0, len(places), batch_size):
        batch = places[first : first + batch_size]
        windows = torch.stack([noisy[row, ..., start : start + canvas.width] for row, start in batch])
        text = torch.stack([states[row] for row, _ in batch])
        seen = conditions[first : first + len(batch)].to(noisy.device)
        rescale = settings.guidance_rescale
        predicted = guided_prediction(pipeline, windows, time, seen, text, states[-1], branches, rescale)
        for (row, start), window in zip(batch, predicted, strict=True):
            sums[row, ..., start : start + canvas.width] += weight * window
            weights[row, start : start + canvas.width] += weight
        if progress is not None:
            progress.update(len(batch))
    return sums / weights[:, None, None]


def take_less_memory(pipeline: Pipeline, batch_size: int) -> int:
    """The batch size to go on with after a GPU's memory has run out: half, or if it is 1 already, sliced attention.

    Raises UserError if that is sliced already.
    """
    torch.cuda.empty_cache()
    if batch_size > 1:
        return batch_size // 2
    if any(isinstance(one, SlicedAttnProcessor) for one in pipeline.unet.attn_processors.values()):
        raise UserError("the device has too little memory for this model; pass --device cpu")
    pipeline.enable_attention_slicing()
    return 1


def branch_weights(settings: Settings, place: float) -> list[float]:
    """What the prediction with text and picture, with the picture alone and with neither count at a step.

    They are equation 3 of InstructPix2Pix (arXiv 2211.09800), sorted by its terms. `place` is the step's in the run,
    from 0 to 1; outside the guidance interval the model predicts unguided.
    """
    first, last = settings.guidance_interval
    text, image = settings.guidance_scale, settings.image_guidance_scale
    return [text, image - text, 1 - image] if first <= place < last else [1.0, 0.0, 0.0]


def guided_prediction(
    pipeline: Pipeline,
    noisy: Tensor,
    time: Tensor,
    conditions: Tensor,
    text: Tensor,
    null: Tensor,
    weights: list[float],
    rescale: float = 0.0,
) -> Tensor:
    """The UNet's guided prediction (B, C, h, w), float32: the sum of its branches by their weights.

    `noisy` and `conditions` are (B, C, h, w), `text` (B, tokens, width), `null` the states (tokens, width) of the
    negative or empty text. The branches of `branch_weights` run as one batch, without those that don't count.
    `rescale` takes the guided prediction's spread back to that of the first branch, wholly at 1.
    """
    unet, nothing = pipeline.unet, null.expand_as(text)
    branches = [(conditions, text), (conditions, nothing), (torch.zeros_like(conditions), nothing)]
    counted = [(weight, *branch) for weight, branch in zip(weights, branches, strict=True) if weight]
    inputs = [torch.cat([noisy, pictures], dim=1) for _, pictures, _ in counted]
    states = torch.cat([texts for _, _, texts in counted])
    predictions = unet(torch.cat(inputs).to(unet.dtype), time, encoder_hidden_states=states).sample.float()
    predictions = predictions.chunk(len(counted))
    guided = sum(weight * prediction for (weight, _, _), prediction in zip(counted, predictions, strict=True))
    if rescale and len(counted) > 1:
        spread, wanted = (values.std(dim=(1, 2, 3), keepdim=True) for values in (guided, predictions[0]))
        guided = guided * torch.lerp(torch.ones_like(spread), wanted / spread, rescale)
    return guided
