"""The training loss: what the UNet has to predict, and how its errors are weighed."""

from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor

from riffusion.diffusion.batch import Batch
from riffusion.diffusion.encode import encode_changes, encode_edits, encode_originals, latent_factor
from riffusion.diffusion.model import Parts


@dataclass(frozen=True)
class Objective:
    """How errors are weighed; by default the plain mean square of DDPM (arXiv 2006.11239)."""

    target: str = "stem"  # what edited pictures show
    snr_gamma: float | None = None  # arXiv 2303.09556
    offset_noise: float = 0.0
    changed_region_weight: float = 1.0


PLAIN = Objective()


def diffusion_loss(parts: Parts, uncond: Batch, batch: Batch, objective: Objective = PLAIN) -> Tensor:
    """Mean of the weighted squared errors of the UNet's prediction, a scalar. Arguments as of `example_losses`."""
    return example_losses(parts, uncond, batch, objective).mean()


def example_losses(parts: Parts, uncond: Batch, batch: Batch, objective: Objective = PLAIN) -> Tensor:
    """Weighted mean squared error of the UNet's prediction for each example, Tensor[B].

    `uncond` has the empty instruction, (1, ...), as `text` or `token_ids`, whichever the batch has.
    """
    scheduler = parts.noise_scheduler
    batch = with_latents(parts, batch, objective)
    timestep = batch["timestep"]  # (B,)
    sampled = batch["edited_mean"] + batch["edited_std"] * batch["sample_noise"]  # (B, C, h, w)
    clean = parts.vae.config.scaling_factor * sampled  # (B, C, h, w)
    noise = batch["noise"] + objective.offset_noise * batch["offset"]  # (B, C, h, w)
    noisy = scheduler.add_noise(clean, noise, timestep)  # (B, C, h, w)
    condition = batch["original"] * batch["keep_image"][:, None, None, None]  # (B, C, h, w)
    text = text_condition(parts, uncond, batch)  # (B, T, D)
    prediction = parts.unet(torch.cat([noisy, condition], dim=1), timestep, text).sample  # (B, 2 C, ..) -> (B, C, h, w)
    predicts_velocity = scheduler.config.prediction_type == "v_prediction"
    expected = scheduler.get_velocity(clean, noise, timestep) if predicts_velocity else noise  # (B, C, h, w)
    error = (prediction.float() - expected.float()).square().mean(dim=1)  # (B, h, w)
    if objective.changed_region_weight != 1:
        weight = 1 + (objective.changed_region_weight - 1) * batch["changed"]  # (B, h, w)
        error = error * weight / weight.mean(dim=(1, 2), keepdim=True)  # (B, h, w)
    return error.mean(dim=(1, 2)) * snr_weight(scheduler, timestep, objective.snr_gamma)  # (B,)


def with_latents(parts: Parts, batch: Batch, objective: Objective) -> Batch:
    """The batch with latents and, if they are weighed, changed regions: those of the cache, or of the pixels."""
    if "original" in batch:
        return batch
    with torch.no_grad():
        batch = batch | encode_originals(parts.vae, batch["original_pixels"])
        batch = batch | encode_edits(parts.vae, batch["edited_pixels"])
    if objective.changed_region_weight != 1:
        batch = batch | encode_changes(batch, objective.target, latent_factor(parts.vae))
    return batch


def text_condition(parts: Parts, uncond: Batch, batch: Batch) -> Tensor:
    """States of the instructions (B, T, D), of the empty one where an instruction is dropped."""
    if "text" in batch:
        return torch.where(batch["keep_text"][:, None, None], batch["text"], uncond["text"])
    return parts.text_encoder(torch.where(batch["keep_text"][:, None], batch["token_ids"], uncond["token_ids"]))[0]


def snr_weight(scheduler: DDPMScheduler, timestep: Tensor, gamma: float | None) -> Tensor:
    """Min-SNR-gamma weights (B,) of the squared error of noise or velocity (arXiv 2303.09556, section 3.4)."""
    if gamma is None:
        return torch.ones_like(timestep, dtype=torch.float32)
    snr = compute_snr(scheduler, timestep)
    over = snr + 1 if scheduler.config.prediction_type == "v_prediction" else snr
    return snr.clamp(max=gamma) / over
