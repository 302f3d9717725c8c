"""A checkpoint made ready for training: a UNet that takes a second picture, low-rank updates, another schedule."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from peft import LoraConfig
from torch import nn

from riffusion.errors import UserError
from riffusion.model import Parts


def take_condition(parts: Parts) -> None:
    """Let the UNet take a second picture, unless it does already. Raises UserError if it takes something else."""
    channels, taken = parts.vae.config.latent_channels, parts.unet.config.in_channels
    if taken == channels:
        widen_conv_in(parts.unet, channels)
    elif taken != 2 * channels:
        raise UserError(f"the UNet takes {taken} channels, the autoencoder makes {channels}")


def widen_conv_in(unet: UNet2DConditionModel, condition_channels: int) -> None:
    """Let the UNet see a condition beside the noisy latents (InstructPix2Pix, section 3.2).

    The first layer keeps its weight and bias; the new channels start at zero, so that the widened UNet equals the
    old one whatever the condition.
    """
    old = unet.conv_in
    channels = old.in_channels + condition_channels
    new = nn.Conv2d(channels, old.out_channels, old.kernel_size, old.stride, old.padding)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, : old.in_channels] = old.weight
        new.load_state_dict({"weight": new.weight, "bias": old.bias})
    unet.conv_in = new.to(old.weight)
    unet.register_to_config(in_channels=channels)


@contextmanager
def averaged_weights(unet: UNet2DConditionModel, average: EMAModel | None) -> Iterator[None]:
    """The UNet with a moving average for weights, if there is one, and with its own again afterwards."""
    if average is None:
        yield
        return
    weights = list(unet.parameters())  # saving may leave the UNet with fewer
    average.store(weights)
    average.copy_to(weights)
    try:
        yield
    finally:
        average.restore(weights)


def use_xformers(unet: UNet2DConditionModel) -> None:
    """Let xformers compute the attention. Raises UserError if it can't."""
    try:
        unet.enable_xformers_memory_efficient_attention()
    except (ImportError, ValueError, NotImplementedError) as error:
        raise UserError(f"--enable_xformers_memory_efficient_attention: {error}") from error


def add_lora(unet: UNet2DConditionModel, rank: int) -> None:
    """Leave only low-rank updates of the attention to train (LoRA, arXiv 2106.09685), and the widened first layer."""
    unet.requires_grad_(False)
    attention = ["to_q", "to_k", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=attention))
    unet.conv_in.requires_grad_(True)


def change_schedule(parts: Parts, prediction_type: str | None, zero_terminal_snr: bool) -> None:
    """Let the UNet learn another prediction, or from pure noise on (zero terminal SNR, arXiv 2305.08891).

    Raises UserError where a UNet predicting noise would start from nothing but noise: there it has nothing to learn.
    """
    config = parts.noise_scheduler.config
    changes: dict[str, object] = {"prediction_type": prediction_type or config.prediction_type}
    if zero_terminal_snr:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    parts.noise_scheduler = DDPMScheduler.from_config(config, **changes)
    if parts.noise_scheduler.config.rescale_betas_zero_snr and changes["prediction_type"] == "epsilon":
        raise UserError("zero terminal SNR needs --prediction_type v_prediction: pure noise says nothing of noise")


def make_optimizer(weights: list[nn.Parameter], settings: dict[str, Any], use_8bit_adam: bool) -> torch.optim.Optimizer:
    """AdamW with its `settings`, fused, or the 8-bit one of bitsandbytes. Raises UserError if that is missing."""
    if not use_8bit_adam:
        return torch.optim.AdamW(weights, fused=True, **settings)
    try:
        import bitsandbytes
    except ImportError as error:
        raise UserError("--use_8bit_adam needs bitsandbytes: pip install bitsandbytes") from error
    return bitsandbytes.optim.AdamW8bit(weights, **settings)
