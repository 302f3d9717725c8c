"""The InstructPix2Pix sampler on pictures and instructions, with its noise tied to each sample's name."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline as Pipeline
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import SlicedAttnProcessor
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from riffusion.diffusion.encode import encode_originals, encode_texts, latent_factor, picture_pixels, tokenize
from riffusion.diffusion.model import ModelFacts
from riffusion.diffusion.schedulers import DEFAULT_SCHEDULER, STOCHASTIC, make_scheduler
from riffusion.diffusion.windows import Canvas, triangular_window
from riffusion.image import colours
from riffusion.util.errors import UserError
from riffusion.util.threads import core_count, side_by_side


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

    @property
    def guidance(self) -> str:
        """The guidance scales in words."""
        return f"guidance of text {self.guidance_scale:g}, image {self.image_guidance_scale:g}"


def choose_settings(
    facts: ModelFacts,
    steps: int,
    seed: int,
    guidance_scale: float | None = None,
    image_guidance_scale: float | None = None,
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
    latents = Denoiser(pipeline, settings, canvas, len(names), progress).sample(conditions, prompts, names)
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


@dataclass
class Denoiser:
    """A pipeline that samples canvases through overlapping windows: as many at once as `batch_size` and memory allow.

    All windows take a denoising step together and share what they predict where they overlap (MultiDiffusion, arXiv
    2302.08113), so that neighbours agree. `progress` counts a step of a window.
    """

    pipeline: Pipeline
    settings: Settings
    canvas: Canvas
    batch_size: int
    progress: tqdm | None = None

    @torch.no_grad()
    def sample(self, conditions: Tensor, prompts: list[str], names: list[str]) -> Tensor:
        """Edited latents (B, C, h, canvas.total) of B canvases, one per prompt and name, which chooses the noise.

        `conditions` (B * windows, C, h, canvas.width) show the input through every window of the first canvas, then of
        the second.
        """
        settings, device = self.settings, self.pipeline.unet.device
        scheduler = make_scheduler(self.pipeline.scheduler, settings.scheduler)
        scheduler.set_timesteps(settings.num_inference_steps, device=device)
        generators = [sample_generator(settings.seed, name) for name in names]
        shape = (conditions.shape[1], conditions.shape[2], self.canvas.total)
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        latents = noise.to(device) * scheduler.init_noise_sigma  # (B, C, h, total)
        states = self.encode([*prompts, settings.negative_prompt])  # (B + 1, tokens, width)
        drawing = {"generator": generators} if settings.scheduler in STOCHASTIC else {}
        for step, time in enumerate(scheduler.timesteps):
            noisy = scheduler.scale_model_input(latents, time)
            branches = branch_weights(settings, step / len(scheduler.timesteps))
            predicted = self.predict(noisy, time, conditions, states, branches)  # (B, C, h, total)
            latents = scheduler.step(predicted, time, latents, **drawing).prev_sample
        return latents

    def encode(self, texts: list[str]) -> Tensor:
        """The text encoder's states (texts, tokens, width)."""
        states = encode_texts(self.pipeline.text_encoder, tokenize(self.pipeline.tokenizer, texts))["text"]
        return states.to(self.pipeline.unet.dtype)

    def predict(self, noisy: Tensor, time: Tensor, conditions: Tensor, states: Tensor, branches: list[float]) -> Tensor:
        """What is predicted of whole canvases (B, C, h, canvas.total), in smaller batches if memory runs out.

        `noisy` is (B, C, h, canvas.total), `conditions` (B * windows, C, h, canvas.width), `states` (B + 1, tokens,
        width) are the texts' and, last, the negative or empty one's. Raises UserError if one window alone is too much.
        """
        counted = self.progress.n if self.progress is not None else 0
        while True:
            try:
                return self._predict(noisy, time, conditions, states, branches)
            except torch.OutOfMemoryError:
                if self.progress is not None:
                    self.progress.update(counted - self.progress.n)  # the windows of this step are predicted again
                self.shrink(len(conditions))

    def _predict(
        self, noisy: Tensor, time: Tensor, conditions: Tensor, states: Tensor, branches: list[float]
    ) -> Tensor:
        width, starts = self.canvas.width, self.canvas.starts
        places = [(row, start) for row in range(len(noisy)) for start in starts]
        weight = torch.from_numpy(triangular_window(width)).to(noisy.device)  # (width,)
        sums, weights = torch.zeros_like(noisy), torch.zeros_like(noisy[:, 0, 0])  # (B, C, h, total), (B, total)

        @torch.no_grad()
        def predict_some(some: range) -> Tensor:
            batch = [places[number] for number in some]
            windows = torch.stack([noisy[row, ..., start : start + width] for row, start in batch])  # (b, C, h, width)
            text = torch.stack([states[row] for row, _ in batch])  # (b, tokens, text width)
            seen = conditions[some.start : some.stop].to(noisy.device)  # (b, C, h, width)
            texts, rescale = (text, states[-1]), self.settings.guidance_rescale
            return guided_prediction(self.pipeline.unet, windows, time, seen, texts, branches, rescale)

        cores = core_count(noisy.device)
        count, batches = self.batches(len(places), cores)
        for some, predicted in zip(batches, side_by_side(predict_some, batches, count, cores), strict=True):
            for number, window in zip(some, predicted, strict=True):
                row, start = places[number]
                sums[row, ..., start : start + width] += weight * window
                weights[row, start : start + width] += weight
            if self.progress is not None:
                self.progress.update(len(some))
        return sums / weights[:, None, None]

    def batches(self, windows: int, cores: int) -> tuple[int, list[range]]:
        """Batches of windows, and how many of these are predicted at once: together no more than `batch_size`."""
        at_once = min(self.batch_size, windows)
        size = -(-at_once // cores)
        return -(-at_once // size), [range(first, min(first + size, windows)) for first in range(0, windows, size)]

    def shrink(self, windows: int) -> None:
        """Take less memory after it ran out with so many windows: half the batch, or if it is 1, sliced attention.

        Raises UserError if that is sliced already.
        """
        torch.cuda.empty_cache()
        if min(self.batch_size, windows) > 1:
            self.batch_size = min(self.batch_size, windows) // 2
            return
        if any(isinstance(one, SlicedAttnProcessor) for one in self.pipeline.unet.attn_processors.values()):
            raise UserError("the device has too little memory for this model; pass --device cpu")
        self.pipeline.enable_attention_slicing()


def branch_weights(settings: Settings, place: float) -> list[float]:
    """What the prediction with text and picture, with the picture alone and with neither count at a step.

    They are equation 3 of InstructPix2Pix (arXiv 2211.09800), sorted by its terms. `place` is the step's in the run,
    from 0 to 1; outside the guidance interval the model predicts unguided.
    """
    first, last = settings.guidance_interval
    text, image = settings.guidance_scale, settings.image_guidance_scale
    return [text, image - text, 1 - image] if first <= place < last else [1.0, 0.0, 0.0]


def guided_prediction(
    unet: UNet2DConditionModel,
    noisy: Tensor,
    time: Tensor,
    conditions: Tensor,
    texts: tuple[Tensor, Tensor],
    weights: list[float],
    rescale: float = 0.0,
) -> Tensor:
    """The UNet's guided prediction (B, C, h, w), float32: the sum of its branches by their weights.

    `noisy` and `conditions` are (B, C, h, w), `texts` states: (B, tokens, width) of the instructions, and (tokens,
    width) of the negative or empty one. The branches of `branch_weights` run as one batch, without those that don't
    count. `rescale` takes the guided prediction's spread back to that of the first branch, wholly at 1.
    """
    text, uncond = texts[0], texts[1].expand_as(texts[0])
    branches = [(conditions, text), (conditions, uncond), (torch.zeros_like(conditions), uncond)]
    counted = [(weight, *branch) for weight, branch in zip(weights, branches, strict=True) if weight]
    inputs = torch.cat([torch.cat([noisy, images], dim=1) for _, images, _ in counted])  # (branches * B, 2 C, h, w)
    states = torch.cat([states for _, _, states in counted])  # (branches * B, tokens, width)
    predictions = unet(inputs.to(unet.dtype), time, encoder_hidden_states=states).sample.float()
    predictions = predictions.chunk(len(counted))  # (B, C, h, w) each
    guided = sum(weight * prediction for (weight, _, _), prediction in zip(counted, predictions, strict=True))
    if rescale and len(counted) > 1:
        spread, wanted = (values.std(dim=(1, 2, 3), keepdim=True) for values in (guided, predictions[0]))
        guided = guided * torch.lerp(torch.ones_like(spread), wanted / spread, rescale)
    return guided
