"""A model of Stable Diffusion 1.5's size with random weights, and what a GPU could do at most: for the benchmarks.

python benchmarks/real_size.py FOLDER
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from riffusion.diffusion import model

ROOT = Path(__file__).resolve().parent.parent


def real_size_model(folder: Path) -> Path:
    """Random weights in the sizes of Stable Diffusion 1.5, with the small model's tokenizer."""
    torch.manual_seed(0)
    blocks = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=blocks[0],
            up_block_types=blocks[1],
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **text)),
        tokenizer=CLIPTokenizer.from_pretrained(ROOT / "checkpoints" / "small", subfolder="tokenizer"),
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        scheduler=DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def unet_flops(folder: Path) -> float:
    """Operations of one forward pass of the UNet for one picture, counted by torch without computing them."""
    parts = model.load_parts(str(folder))
    model.take_condition(parts)
    config = parts.unet.config
    size = config.sample_size
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
        noisy = torch.empty(1, config.in_channels, size, size)
        text = torch.empty(1, parts.tokenizer.model_max_length, config.cross_attention_dim)
        with FlopCounterMode(display=False) as counter:
            unet(noisy, torch.zeros(1, dtype=torch.long), text)
    return counter.get_total_flops()


def matrix_rate() -> float:
    """Operations a second that the GPU reaches multiplying bf16 matrices of 8192 x 8192."""
    one, other = torch.randn(2, 8192, 8192, dtype=torch.bfloat16, device="cuda")
    rates = []
    for _ in range(20):
        torch.cuda.synchronize()
        started = time.perf_counter()
        one @ other
        torch.cuda.synchronize()
        rates.append(2 * 8192**3 / (time.perf_counter() - started))
    return float(np.median(rates))


if __name__ == "__main__":
    real_size_model(Path(sys.argv[1]))
