"""Spectrogram pictures of music, as Riffusion V1 defines them, and the edit that paints a stem into one."""

import logging
import os

# These warn while they are imported, on every machine without xformers' GPU kernels or torchvision; neither is needed.
logging.getLogger("xformers").setLevel(logging.ERROR)
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
