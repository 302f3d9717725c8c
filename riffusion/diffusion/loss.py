"""The training loss: what the UNet has to predict, and how its errors are weighed."""

from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor

from riffusion.diffusion.encode import encode_changes, encode_edits, encode_originals, latent_factor
from riffusion.diffusion.model import Parts


@dataclass(frozen=True)
class Objective:
    """How errors are weighed; as it stands, the plain mean square of DDPM (arXiv 2006.11239)."""

    target: str = "stem"  # what edited pictures show
    snr_gamma: float | None = None  # arXiv 2303.09556
    offset_noise: float = 0.0
    changed_region_weight: float = 1.0


def diffusion_loss(parts: Parts, null: dict[str, Tensor], batch: dict[str, Tensor], objective: Objective) -> Tensor:
    """Mean of the weighted squared errors of the UNet's prediction, a scalar. Arguments as of `example_losses`."""
    return example_losses(parts, null, batch, objective).mean()


def example_losses(parts: Parts, null: dict[str, Tensor], batch: dict[str, Tensor], objective: Objective) -> Tensor:
    """Weighted mean squared error of the UNet's prediction for each example, (B,).

    `batch` is `riffusion.training.examples`, with latents or with pixels, with text states or with token ids;
    `null` is the empty instruction in the same form, (1, ...).
    """
    scheduler = parts.noise_scheduler
    batch = with_latents(parts, batch, objective)
    clean = parts.vae.config.scaling_factor * (batch["edited_mean"] + batch["edited_std"] * batch["sample_noise"])
    noise = batch["noise"] + objective.offset_noise * batch["offset"]
    noisy = scheduler.add_noise(clean, noise, batch["timestep"])
    condition = batch["original"] * batch["keep_image"][:, None, None, None]
    text = text_condition(parts, null, batch)
    prediction = parts.unet(torch.cat([noisy, condition], dim=1), batch["timestep"], text).sample
    velocity = scheduler.config.prediction_type == "v_prediction"
    wanted = scheduler.get_velocity(clean, noise, batch["timestep"]) if velocity else noise
    error = (prediction.float() - wanted.float()).square().mean(dim=1)  # (B, h, w)
    if objective.changed_region_weight != 1:
        weight = 1 + (objective.changed_region_weight - 1) * batch["changed"]
        error = error * weight / weight.mean(dim=(1, 2), keepdim=True)
    return error.mean(dim=(1, 2)) * snr_weight(scheduler, batch["timestep"], objective.snr_gamma)


def with_latents(parts: Parts, batch: dict[str, Tensor], objective: Objective) -> dict[str, Tensor]:
    """The batch with what a cache would have held: latents and, if they are weighed, changed regions."""
    if "original" in batch:
        return batch
    with torch.no_grad():
        original = encode_originals(parts.vae, batch["original_pixels"])
        edited = encode_edits(parts.vae, batch["edited_pixels"])
    if objective.changed_region_weight != 1:
        edited |= encode_changes(batch, objective.target, latent_factor(parts.vae))
    return batch | original | edited


def text_condition(parts: Parts, null: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    """States of the instructions (B, tokens, width), of the empty one where text is dropped."""
    if "text" in batch:
        return torch.where(batch["keep_text"][:, None, None], batch["text"], null["text"])
    return parts.text_encoder(torch.where(batch["keep_text"][:, None], batch["token_ids"], null["token_ids"]))[0]


def snr_weight(scheduler: DDPMScheduler, timestep: Tensor, gamma: float | None) -> Tensor:
    """Min-SNR-gamma weights (B,) of the squared error of noise or velocity (arXiv 2303.09556, section 3.4)."""
    if gamma is None:
        return torch.ones_like(timestep, dtype=torch.float32)
    snr = compute_snr(scheduler, timestep)
    over = snr + 1 if scheduler.config.prediction_type == "v_prediction" else snr
    return snr.clamp(max=gamma) / over
