"""Spectrogram pictures of music, as Riffusion V1 defines them, and the edit that paints a stem into one."""

import logging
import os
import sys

# These warn while they are imported, on every machine without xformers' GPU kernels or torchvision; neither is needed.
logging.getLogger("xformers").setLevel(logging.ERROR)
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")

# Nothing is told to anybody. onnxruntime, which finds pitches, would send what machine it runs on; the Hub's clients
# would name their surroundings in each request and count what is loaded. They may have been imported before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
for module, setting, value in (
    ("huggingface_hub.constants", "HF_HUB_DISABLE_TELEMETRY", True),
    ("diffusers.utils.hub_utils", "HF_HUB_DISABLE_TELEMETRY", True),
    ("datasets.config", "HF_UPDATE_DOWNLOAD_COUNTS", False),
):
    if module in sys.modules:
        setattr(sys.modules[module], setting, value)
