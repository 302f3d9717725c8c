"""Validation runs: the loss on held-out and on training pairs, and what the model paints for held-out ones."""

import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from PIL import Image
from torch.utils.data import DataLoader, Subset

from riffusion import audio
from riffusion.diffusion.batch import Batch
from riffusion.diffusion.loss import example_losses
from riffusion.diffusion.model import ModelFacts, Parts, pipeline_from_parts
from riffusion.diffusion.sampling import choose_settings, edit_images
from riffusion.diffusion.schedulers import DEFAULT_STEPS
from riffusion.image import SpectrogramImageConverter
from riffusion.pairs.dataset import read_pair_picture
from riffusion.spectrogram_params import max_value_from_exif
from riffusion.training.examples import TrainingExamples
from riffusion.training.sources import Columns
from riffusion.util import figures, files
from riffusion.util.disk_space import writing

VALIDATION_PAIRS = 64  # of held-out and as many of training pairs, always with the same noise and timesteps
STALE_RUNS = 3  # validation runs without a better held-out loss after which each further one warns
NOISE_BINS = 4  # equal ranges of timesteps with a loss of their own
OVERFIT_RATIO = 0.5  # of training loss to held-out loss, at the same noise, below which the model is overfitting

Losses = dict[int, float]  # mean squared error of each of `NOISE_BINS`, numbered from 1, the least noise


@dataclass
class Progress:
    """The results of validation runs so far. Checkpoints hold it, and result.json, under these names."""

    held_out_loss: float = float("nan")
    training_loss: float = float("nan")
    held_out_by_noise: Losses = field(default_factory=dict)
    best_loss: float = float("inf")
    best_step: int = 0
    looks_since_best: int = 0  # validation runs since the best

    def update(self, step: int, held_out_by_noise: Losses, training_by_noise: Losses) -> list[str]:
        """Add a validation run; returns its summary and warnings, one line each."""
        held_out, training = (statistics.mean(losses.values()) for losses in (held_out_by_noise, training_by_noise))
        self.held_out_loss, self.training_loss, self.held_out_by_noise = held_out, training, held_out_by_noise
        self.looks_since_best += 1
        if held_out < self.best_loss:
            self.best_loss, self.best_step, self.looks_since_best = held_out, step, 0
        by_noise = " ".join(f"{loss:.3f}" for loss in held_out_by_noise.values())
        lines = [
            f"step {step}: held-out loss {held_out:.4f} (from least to most noise {by_noise}), "
            f"training loss at the same noise {training:.4f}"
        ]
        if self.looks_since_best >= STALE_RUNS:
            best = f"the best was {self.best_loss:.4f} at step {self.best_step}"
            lines.append(f"held-out loss has not improved for {step - self.best_step} steps: {best}")
        if training < OVERFIT_RATIO * held_out:
            lines.append(f"overfitting: held-out loss is {held_out / training:.1f} times the training loss")
        return lines

    def scalars(self) -> dict[str, float]:
        """The last validation run, for the logging backend."""
        by_noise = {f"held_out_loss_noise_{share}": loss for share, loss in self.held_out_by_noise.items()}
        held_out, training = self.held_out_loss, self.training_loss
        return {"held_out_loss": held_out, "training_loss": training, "gap": held_out - training, **by_noise}

    def state_dict(self) -> dict[str, object]:
        """What accelerate saves in a checkpoint."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take over what accelerate has loaded from a checkpoint."""
        vars(self).update(state)


@dataclass(frozen=True)
class ValidationSet:
    """Held-out and training examples to measure losses on, and the held-out pairs themselves, to paint."""

    held_out: TrainingExamples
    training: TrainingExamples
    pairs: datasets.Dataset
    columns: Columns


def choose_pairs(pairs: datasets.Dataset) -> datasets.Dataset:
    """`VALIDATION_PAIRS` of the pairs, or all if there are fewer; always the same ones."""
    return pairs.shuffle(seed=0).select(range(min(VALIDATION_PAIRS, len(pairs))))


@torch.no_grad()
def fixed_losses(parts: Parts, uncond: Batch, examples: TrainingExamples, batch_size: int) -> Losses:
    """Mean squared errors over the first epoch of the examples: the same pairs, noise and timesteps each time."""
    loader: DataLoader[Batch] = DataLoader(Subset(examples, range(examples.pairs)), batch_size)
    batches: list[Batch] = [send_to_device(batch, parts.unet.device) for batch in loader]
    losses = torch.cat([example_losses(parts, uncond, batch) for batch in batches])  # (pairs,)
    shares = 1 + torch.cat([batch["timestep"] for batch in batches]) * NOISE_BINS // examples.timesteps  # (pairs,)
    return {int(share): losses[shares == share].mean().item() for share in shares.unique()}


def paint_pairs(
    parts: Parts, facts: ModelFacts, validation: ValidationSet, prompt: str | None, count: int, seed: int
) -> list[list[Image.Image]]:
    """Input, painted picture and target of the first held-out pairs, by their own instructions or by `prompt`."""
    pairs, columns = validation.pairs.select(range(min(count, len(validation.pairs)))), validation.columns
    originals, edits = (
        [read_pair_picture(pairs, row, column) for row in range(len(pairs))]
        for column in (columns.original, columns.edited)
    )
    prompts = [prompt or own for own in pairs[columns.prompt]]
    names = [f"validation {number}" for number in range(len(prompts))]
    settings = choose_settings(facts, DEFAULT_STEPS, seed)
    home = parts.vae.device
    painted = edit_images(pipeline_from_parts(parts).to(parts.unet.device), originals, prompts, names, settings)
    parts.vae.to(home)
    rows = zip(originals, painted, edits, strict=True)
    return [list(row) for row in rows]


def save_paintings(
    rows: list[list[Image.Image]], facts: ModelFacts, folder: Path, step: int, accelerator: Accelerator
) -> None:
    """Write step-STEP.png, one row per pair, and every picture as sound; also to TensorBoard if it is on."""
    files.make_folder(folder)
    grid = figures.picture_grid(rows)
    with writing(folder):
        grid.save(folder / f"step-{step}.png")
    boards = [tracker.writer for tracker in accelerator.trackers if tracker.name == "tensorboard"]
    for board in boards:
        board.add_image("input, painted, target", np.asarray(grid)[None], step)
    converter = SpectrogramImageConverter(facts.params, accelerator.device.type)
    for number, (original, painted, target) in enumerate(rows):
        max_value = max_value_from_exif(original.getexif())
        pictures = {"input": original, "target": target, f"step-{step}": painted}
        for name, picture in pictures.items():
            path = folder / f"record-{number}-{name}.wav"
            if path.exists():  # inputs and targets stay the same: they become sound once
                continue
            waveform = converter.audio_from_spectrogram_image(picture, max_value)
            audio.save_wav(path, waveform, facts.params.sample_rate)
            label = "painted" if picture is painted else name
            for board in boards:
                board.add_audio(f"record {number}, {label}", waveform.mean(axis=0), step, facts.params.sample_rate)
