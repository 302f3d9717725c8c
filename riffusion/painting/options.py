"""What a painting run is asked for. Nothing here imports what takes long: flags are made of it, and `--help`."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from riffusion.diffusion.schedulers import DEFAULT_SCHEDULER, DEFAULT_STEPS
from riffusion.util.errors import UserError

if TYPE_CHECKING:
    import torch

STDIN = "-"  # among `audio`: standard input
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")  # endings of pictures
SAMPLE_ORDERS = ("first", "random")  # which of a dataset's items are taken, if not all are
MOST_STEPS = 1000  # models are trained with as many
LIMITS: dict[str, tuple[float, float]] = {
    "max_samples": (1, math.inf),
    "stem_gain_db": (-60, 60),
    "pan": (-1, 1),
    "zip_mb": (0, math.inf),
    "seed": (0, 2**31 - 1),
    "num_inference_steps": (1, MOST_STEPS),
    "guidance_rescale": (0, 1),
    "num_candidates": (1, math.inf),
    "retries": (0, math.inf),
    "batch_size": (1, math.inf),
}


@dataclass(frozen=True)
class PaintOptions:
    """The inference script's flags, by their names and with their defaults; None where something else decides.

    Raises UserError for a number beyond its `LIMITS`.
    """

    model_id: str = "zachary-shah/riff-pix2pix-v1"
    model_config: str | None = None  # folder with the settings of a model in one file; None: Stable Diffusion's
    dataset_id: str = "zachary-shah/musdb18-spec-pix2pix-test"
    max_samples: int = 25
    sample_order: str = "first"  # one of `SAMPLE_ORDERS`
    sample_index: tuple[int, ...] | None = None  # the dataset's rows to take, in this order
    images: tuple[str, ...] | None = None  # pictures of spectrograms to paint into, instead of a dataset's
    edits: Path | None = None  # a list of edits, see `riffusion.painting.edits`
    audio: tuple[str, ...] | None = None  # None: the dataset is painted into
    prompt: tuple[str, ...] | None = None
    task: str | None = None  # None: what the instruction says
    without_stem: str | None = None
    start: float = 0.0  # seconds
    end: float | None = None  # seconds; None: the song's end

    base_save_path: Path = Path("outputs")
    output: Path | None = None  # the one file to write instead of a folder of results
    output_stem: Path | None = None  # the painted part beside it
    name: str | None = None  # None: the song's
    overwrite: bool = False
    zip_mb: float = 100.0  # of sounds, up to which a folder's are also written as one file; 0: never
    stem_gain_db: float = 0.0
    pan: float = 0.0  # -1 is left, 1 is right
    format: str = "wav"
    bits: int | None = None  # None: as many as the input has
    require_edit: bool = False
    quiet: bool = False

    seed: int | None = None  # None: an earlier run's, else a random one
    num_inference_steps: int = DEFAULT_STEPS
    scheduler: str = DEFAULT_SCHEDULER
    guidance_scale: tuple[float, ...] | None = None  # None: the model's
    image_guidance_scale: tuple[float, ...] | None = None  # None: the model's
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)  # share of the steps that are guided
    negative_prompt: str = ""
    num_candidates: int = 1
    retries: int = 0

    batch_size: int = 4
    device: "torch.device | None" = None  # None: the GPU if there is one
    precision: str | None = None  # None: bf16 where the device has it, else fp32
    compile: bool = False

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UserError(f"{name} must be from {low} to {high}, not {value}")

    @property
    def is_piped(self) -> bool:
        """Whether the song comes from standard input, and the painted one goes to standard output."""
        return self.audio == (STDIN,)

    @property
    def writes_files_only(self) -> bool:
        """Whether the result goes where somebody wants it, and no folder of results is left."""
        return self.is_piped or self.output is not None

    @property
    def paints_songs(self) -> bool:
        """Whether songs are painted into, and not the images of a dataset."""
        return self.audio is not None or self.edits is not None

    @property
    def is_search(self) -> bool:
        """Whether several guidance scales are compared."""
        return len(self.guidance_grid()) > 1

    def guidance_grid(self) -> list[tuple[float | None, float | None]]:
        """Text and image guidance of every run; None stands for the model's own."""
        texts, images = self.guidance_scale or (None,), self.image_guidance_scale or (None,)
        return list(itertools.product(dict.fromkeys(texts), dict.fromkeys(images)))

    def guidance_folder(self, text: float | None, image: float | None) -> Path:
        """Where the results with this guidance go: a folder of its own only in a search."""
        if not self.is_search:
            return self.base_save_path
        scales = {"text": text, "image": image}
        name = "-".join(f"{kind}-{scale:g}" for kind, scale in scales.items() if scale is not None)
        return self.base_save_path / name
