"""The model's parts: loading them, widening the UNet for its second picture, and what the model says of itself."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from riffusion import hub, report
from riffusion.errors import UserError
from riffusion.spectrogram import SpectrogramParams

FACTS_FILE = "riffusion.json"  # beside model_index.json

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class ModelFacts:
    """What inference must know of a model beyond its weights; the defaults are the original's."""

    target: str = "mix"
    params: SpectrogramParams = SpectrogramParams()
    guidance_scale: float = 15.0
    image_guidance_scale: float = 1.5


@dataclass
class Parts:
    """The five parts of a latent diffusion checkpoint in diffusers' layout."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    noise_scheduler: DDPMScheduler


def save_facts(folder: Path, facts: ModelFacts) -> None:
    """Write the facts beside the model."""
    report.save_json(folder / FACTS_FILE, asdict(facts))


def load_facts(model_id: str) -> ModelFacts:
    """The facts of a model folder or Hub model; a model without them is taken for one of the original's."""
    path = Path(model_id) / FACTS_FILE
    if not Path(model_id).is_dir():
        hub.go_offline_without_network()
        try:
            path = Path(hf_hub_download(model_id, FACTS_FILE))
        except EntryNotFoundError:  # the repository, or its cached copy, has no such file
            return ModelFacts()
        except hub.HUB_ERRORS as error:
            raise _unavailable(model_id) from error
    if not path.is_file():
        return ModelFacts()
    values = report.load_json(path)
    try:
        return ModelFacts(**values | {"params": SpectrogramParams(**values["params"])})
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not the facts of a model ({error})") from error


def load_parts(name: str, revision: str | None, variant: str | None, cache_dir: Path | None) -> Parts:
    """Parts of a checkpoint folder or Hub model, weights in float32. Raises UserError if one can't be had."""

    def load(kind: Any, folder: str, **options: object) -> Any:
        options |= {"subfolder": folder, "revision": revision, "cache_dir": cache_dir}
        return _load(name, lambda: kind.from_pretrained(name, **options))

    return Parts(
        tokenizer=load(CLIPTokenizer, "tokenizer"),
        text_encoder=load(CLIPTextModel, "text_encoder", variant=variant, dtype=torch.float32),
        vae=load(AutoencoderKL, "vae", variant=variant),
        unet=load(UNet2DConditionModel, "unet", variant=variant),
        noise_scheduler=load(DDPMScheduler, "scheduler"),
    )


def pipeline_from_parts(parts: Parts) -> StableDiffusionInstructPix2PixPipeline:
    """The parts as a pipeline that samples by DDIM, which needs few steps and draws no noise of its own."""
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=parts.unet,
        scheduler=DDIMScheduler.from_config(parts.noise_scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_pipeline(model_id: str, device: str, dtype: torch.dtype) -> StableDiffusionInstructPix2PixPipeline:
    """An InstructPix2Pix pipeline ready to sample. Raises UserError if the model can't be had."""
    pipeline = _load(
        model_id,
        lambda: StableDiffusionInstructPix2PixPipeline.from_pretrained(
            model_id, dtype=dtype, safety_checker=None, requires_safety_checker=False
        ),
    )
    needed, latents = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
    if needed != 2 * latents:
        raise UserError(
            f"{model_id}: its UNet takes {needed} channels where InstructPix2Pix has {2 * latents}; "
            "train it first with train_instruct_pix2pix.py"
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _load(name: str, load: Callable[[], Loaded]) -> Loaded:
    if Path(name).is_absolute() and not Path(name).is_dir():
        raise UserError(f"{name}: no such folder")
    if not Path(name).is_dir():
        hub.go_offline_without_network()
    elif not (Path(name) / "tokenizer").is_dir():  # from_pretrained would make one up
        raise UserError(f"{name}: not a model in diffusers' layout (it has no folder named tokenizer)")
    try:
        return load()
    except hub.HUB_ERRORS as error:
        if Path(name).is_dir():
            raise UserError(f"{name}: not a model in diffusers' layout ({_first_line(error)})") from error
        raise _unavailable(name) from error


def _unavailable(name: str) -> UserError:
    return UserError(
        f"model {name!r} is not a folder here and the Hub can't be reached or doesn't have it; "
        "pass a local folder, such as checkpoints/small"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


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
