"""Models as one file, with the names that Stable Diffusion's own code gives to weights."""

import re
from pathlib import Path

import torch
from safetensors.torch import save_file

from riffusion.diffusion import model

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def write_single_file(folder: Path, path: Path) -> Path:
    """A model in diffusers' layout as one .safetensors or .ckpt file."""
    parts = model.load_parts(str(folder))
    weights = {f"model.diffusion_model.{unet_name(name, parts.unet)}": w for name, w in parts.unet.state_dict().items()}
    levels = len(parts.vae.config.block_out_channels)
    for name, weight in parts.vae.state_dict().items():
        weights[f"first_stage_model.{vae_name(name, levels)}"] = weight
    for name, weight in parts.text_encoder.state_dict().items():
        weights[f"cond_stage_model.transformer.{name if name.startswith('text_model') else f'text_model.{name}'}"] = (
            weight
        )
    weights = {name: weight.contiguous() for name, weight in weights.items()}
    if path.suffix == ".ckpt":
        torch.save({"state_dict": weights}, path)
    else:
        save_file(weights, path)
    return path


def unet_name(name: str, unet: torch.nn.Module) -> str:
    """Stable Diffusion's name of one of a UNet's weights: its blocks are counted, layers and resampling alike."""
    per_block = unet.config.layers_per_block + 1
    for ours, theirs in UNET_ENDS.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    if name.startswith("mid_block."):
        name = name.replace("mid_block.resnets.1", "middle_block.2").replace("mid_block.resnets.0", "middle_block.0")
        name = name.replace("mid_block.attentions.0", "middle_block.1")
        return name if name.startswith("middle_block.1.") else renamed_resnet(name)
    side, block, kind, layer, rest = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name).groups()
    first = int(block) * per_block + (side == "down")
    place = {"resnets": 0, "attentions": 1}
    blocks = {"down": "input_blocks", "up": "output_blocks"}[side]
    if kind in place:
        name = f"{blocks}.{first + int(layer)}.{place[kind]}.{rest}"
        return renamed_resnet(name) if kind == "resnets" else name
    if kind == "downsamplers":
        return f"{blocks}.{first + per_block - 1}.0.op{rest.removeprefix('conv')}"
    has_attention = hasattr(unet.up_blocks[int(block)], "attentions")
    return f"{blocks}.{first + per_block - 1}.{1 + has_attention}.conv{rest.removeprefix('conv')}"


def renamed_resnet(name: str) -> str:
    """The name with its last parts as Stable Diffusion's residual layers have them."""
    for ours, theirs in RESNET.items():
        name = re.sub(rf"(?<=\d)\.{ours}\.", f".{theirs}.", name)
    return name


def vae_name(name: str, levels: int) -> str:
    """Stable Diffusion's name of one of an autoencoder's weights; its decoder counts levels from the finest."""
    name = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{levels - 1 - int(found[1])}", name)
    name = re.sub(r"down_blocks\.(\d+)", r"down.\1", name).replace("conv_norm_out", "norm_out")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    name = re.sub(r"\.resnets\.", ".block.", name).replace("conv_shortcut", "nin_shortcut")
    return re.sub(r"\.(down|up)samplers\.0\.", r".\1sample.", name)
