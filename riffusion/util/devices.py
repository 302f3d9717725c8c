"""What a device can compute in, and GPUs that can't be used."""

import os
import shutil
import sys
import warnings
from pathlib import Path

import torch

from riffusion.util.flags import PRECISIONS

DRIVER = Path("/proc/driver/nvidia/version")  # of the NVIDIA kernel module


def choose_dtype(device: torch.device, precision: str | None) -> torch.dtype:
    """A model's dtype. Without `precision` bfloat16 where the device computes in it; elsewhere it would be emulated."""
    if precision is not None:
        return getattr(torch, PRECISIONS[precision])
    if has_bf16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 instead of emulating it, which is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.11
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def warn_of_unusable_gpu(device: torch.device | None = None) -> None:
    """Print on stderr why torch can't use the GPU that is here, if so, unless another device is asked for."""
    reason = unusable_gpu() if device is None else None
    if reason:
        print(f"warning: {reason}", file=sys.stderr)


def unusable_gpu() -> str | None:
    """Why torch can't use an NVIDIA GPU whose driver is here, in one line; None if it can, or there is none to use."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or not (DRIVER.exists() or shutil.which("nvidia-smi")):
        return None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return None
    reason = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built for CPUs"
    if said:
        reason += f" ({str(said[0].message).split('.')[0]})"
    return f"torch {torch.__version__} {reason} and can't use this machine's GPU: see docs/training.md"
