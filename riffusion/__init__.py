"""Spectrogram pictures of music, as Riffusion V1 defines them, and the edit that paints a stem into one."""

import logging
import os

# diffusers imports xformers wherever it is installed, and xformers warns on every machine without its GPU kernels
logging.getLogger("xformers").setLevel(logging.ERROR)
# transformers warns that it prepares images without torchvision; nothing here asks it to prepare any
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
