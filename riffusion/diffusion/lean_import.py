"""Importing diffusers for inference, in a process that does nothing else, without what it imports in case it's used."""

import gc
import sys

from riffusion.diffusion.lora import is_lora

UNUSED = ("bitsandbytes", "scipy", "torchao", "xformers")  # by diffusers, when it samples with the schedulers we have


def import_diffusers(model_id: str) -> None:
    """Import diffusers in half of its time: libraries that won't be used count as missing for it from now on.

    Python doesn't look through its millions of objects meanwhile, nor later, for any that are unused. Where it was
    imported already, nothing happens. PEFT is only used by models that are low-rank updates.
    """
    if "diffusers" in sys.modules:
        return
    unused = [name for name in (*UNUSED, *(() if is_lora(model_id) else ("peft",))) if name not in sys.modules]
    sys.modules.update(dict.fromkeys(unused))  # type: ignore[arg-type]  # None is how Python is told that one is missing
    gc.disable()
    try:
        from diffusers import AutoencoderKL, StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel  # noqa: F401
    finally:
        for name in unused:
            del sys.modules[name]
        gc.freeze()
        gc.enable()
