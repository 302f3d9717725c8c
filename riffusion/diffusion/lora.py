"""Low-rank updates of the attention (LoRA, arXiv 2106.09685): training them, and keeping them without their base."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from riffusion.util import files
from riffusion.util.errors import UserError

if TYPE_CHECKING:
    from diffusers import StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel

FOLDER = "lora"  # in the output folder of training
BASE_FILE = "lora.json"  # names the base
FIRST_LAYER_FILE = "conv_in.safetensors"  # it takes a second picture, so that it is no update of the base's


def add_lora(unet: "UNet2DConditionModel", rank: int) -> None:
    """Leave only low-rank updates of the attention to train, and the widened first layer."""
    from peft import LoraConfig

    unet.requires_grad_(False)
    attention = ["to_q", "to_k", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=attention))
    unet.conv_in.requires_grad_(True)


def has_lora(unet: "UNet2DConditionModel") -> bool:
    """Whether low-rank updates stand beside the UNet's weights."""
    return hasattr(unet, "peft_config")


def save_lora(unet: "UNet2DConditionModel", base: str, folder: Path) -> None:
    """Write the updates, in the file that diffusers knows, with the first layer and the name of the base model."""
    from diffusers import StableDiffusionInstructPix2PixPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    updates = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    StableDiffusionInstructPix2PixPipeline.save_lora_weights(folder, unet_lora_layers=updates)
    save_file(unet.conv_in.state_dict(), folder / FIRST_LAYER_FILE)
    place = os.path.relpath(base, folder) if Path(base).exists() else base  # no path of this machine is published
    files.save_json(folder / BASE_FILE, {"base": place})


def merge_lora(unet: "UNet2DConditionModel") -> None:
    """Add the updates to the weights that they update, so that the UNet is one like any other."""
    unet.fuse_lora()
    unet.unload_lora()


def is_lora(name: str) -> bool:
    """Whether a model's name is that of a folder of `save_lora`."""
    return (Path(name) / BASE_FILE).is_file()


def base_of(folder: Path) -> str:
    """The model that a folder's updates belong to; a local one is named as seen from the folder.

    Raises UserError if the folder doesn't say.
    """
    path = folder / BASE_FILE
    base = files.load_json(path).get("base")
    if not isinstance(base, str):
        raise UserError(f'{path}: not of the form {{"base": "folder or Hub name"}}')
    beside = folder / base
    return str(beside) if beside.exists() else base


def apply_lora(pipeline: "StableDiffusionInstructPix2PixPipeline", folder: Path) -> None:
    """Merge a folder's updates into the pipeline of their base, whose UNet takes a second picture already.

    Raises UserError if they don't fit it.
    """
    from safetensors.torch import load_file

    try:
        pipeline.unet.conv_in.load_state_dict(load_file(folder / FIRST_LAYER_FILE))
        pipeline.load_lora_weights(folder)
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{folder}: its updates don't fit the base {base_of(folder)} ({reason})") from error
    merge_lora(pipeline.unet)
