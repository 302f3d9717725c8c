"""Checkpoints in one file, as people share them: .safetensors or .ckpt with the weights of Stable Diffusion 1 or 2."""

from pathlib import Path
from pickle import UnpicklingError

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    fetch_diffusers_config,
    infer_diffusers_model_type,
    load_single_file_checkpoint,
)
from safetensors import SafetensorError

from riffusion.util.errors import UserError

FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"  # of the UNet, in every file of Stable Diffusion 1 and 2
STABLE_DIFFUSION = ("v1", "v2", "instruct-pix2pix", "inpainting", "inpainting_v2")  # diffusers' names of what fits
KINDS = {"xl": "SDXL", "flux": "Flux", "sd3": "Stable Diffusion 3", "ltx": "LTX-Video", "controlnet": "ControlNet"}


def load_single_file(path: Path, config: str | None = None) -> StableDiffusionInstructPix2PixPipeline:
    """A checkpoint file as a pipeline, weights in float32; its UNet takes as many channels as it does in the file.

    `config` is the folder in diffusers' layout whose settings and tokenizer belong to the weights; by default Stable
    Diffusion's own are used, from the Hub. Raises UserError if the file can't be read or holds another kind of model.
    """
    weights = read_weights(path)
    refuse_other_kinds(path, weights)
    settings = {"config": config or fetch_diffusers_config(weights)["pretrained_model_name_or_path"]}
    channels = weights[FIRST_LAYER].shape[1]
    unet = UNet2DConditionModel.from_single_file(
        str(path), subfolder="unet", in_channels=channels, torch_dtype=torch.float32, **settings
    )
    return StableDiffusionInstructPix2PixPipeline.from_single_file(
        str(path),
        unet=unet,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        torch_dtype=torch.float32,
        **settings,
    )


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """A file's tensors by their names; those of a .safetensors file are read when they are used."""
    try:
        return load_single_file_checkpoint(str(path))
    except (OSError, EOFError, RuntimeError, SafetensorError, UnpicklingError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{path}: not a readable checkpoint ({reason})") from error


def refuse_other_kinds(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Raise UserError, saying what it is, unless these are the weights of Stable Diffusion 1 or 2."""
    kind = infer_diffusers_model_type(weights)
    if kind in STABLE_DIFFUSION and FIRST_LAYER in weights:
        return
    example = next(iter(weights), "nothing")
    known = [name for start, name in KINDS.items() if kind.startswith(start)]
    if any("lora" in name for name in weights):
        known = ["low-rank updates (LoRA) without their base"]
    what = known[0] if known else f"{len(weights)} tensors such as {example!r}" if kind == "v1" else kind
    raise UserError(f"{path}: holds {what}; what is needed is a checkpoint of Stable Diffusion 1 or 2")
