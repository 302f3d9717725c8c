"""Watching a model learn: its loss on held-out and on training pairs, and what it paints for held-out ones."""

import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from riffusion import audio
from riffusion.diffusion.loss import Objective, example_losses
from riffusion.diffusion.model import ModelFacts, Parts, pipeline_from_parts
from riffusion.diffusion.sampling import choose_settings, edit_images
from riffusion.diffusion.schedulers import DEFAULT_STEPS
from riffusion.image import SpectrogramImageConverter
from riffusion.pairs.dataset import read_pair_picture
from riffusion.spectrogram import max_value_from_exif
from riffusion.training.examples import Draws, TrainingExamples
from riffusion.training.sources import Columns
from riffusion.util import figures, files

WATCHED_PAIRS = 64  # of held-out and as many of training pairs, each with its own noise and timestep for good
STALE_LOOKS = 3  # looks without a better held-out loss after which every further one says so
NOISE_BINS = 4  # equal shares of the timesteps whose losses are told apart
BY_HEART = 0.5  # training loss over held-out loss, at the same noise, below which the model is overfitting

Losses = dict[int, float]  # a mean squared error for each of `NOISE_BINS`, counted from the least noise, 1, to the most


@dataclass
class Progress:
    """What was seen so far; it goes into checkpoints, so that a resumed run remembers."""

    held_out_loss: float = float("nan")
    training_loss: float = float("nan")
    held_out_by_noise: Losses = field(default_factory=dict)
    best_loss: float = float("inf")
    best_step: int = 0
    looks_since_best: int = 0

    def look(self, step: int, held_out_by_noise: Losses, training_by_noise: Losses) -> list[str]:
        """Take in losses at the same noise; returns what a person should read, one line each."""
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
        if self.looks_since_best >= STALE_LOOKS:
            best = f"the best was {self.best_loss:.4f} at step {self.best_step}"
            lines.append(f"held-out loss has not improved for {step - self.best_step} steps: {best}")
        if training < BY_HEART * held_out:
            lines.append(f"overfitting: held-out loss is {held_out / training:.1f} times the training loss")
        return lines

    def figures(self) -> dict[str, float]:
        """For the trackers."""
        by_noise = {f"held_out_loss_noise_{share}": loss for share, loss in self.held_out_by_noise.items()}
        held_out, training = self.held_out_loss, self.training_loss
        return {"held_out_loss": held_out, "training_loss": training, "gap": held_out - training, **by_noise}

    def state_dict(self) -> dict[str, float]:
        """For accelerate."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, float]) -> None:
        """For accelerate."""
        vars(self).update(state)


class Meter:
    """Loss and speed of a run, read every now and then: each reading makes a GPU wait."""

    def __init__(self, accelerator: Accelerator, batch_size: int):
        self.accelerator = accelerator
        self.batch_size = batch_size
        self.losses: list[Tensor] = []
        self.loss: float | None = None
        self.rates: list[float] = []
        self.started = time.perf_counter()
        if accelerator.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def add(self, loss: Tensor) -> None:
        """Take in the loss of one batch of this process."""
        self.losses.append(loss)

    def read(self) -> dict[str, float]:
        """The mean `loss` and `samples_per_second` of all processes since the last reading."""
        self.loss = self.accelerator.reduce(torch.stack(self.losses).mean(), "mean").item()
        now = time.perf_counter()
        samples = len(self.losses) * self.batch_size * self.accelerator.num_processes
        self.rates.append(samples / (now - self.started))
        self.losses, self.started = [], now
        return {"loss": self.loss, "samples_per_second": self.rates[-1]}

    def figures(self) -> dict[str, float | None]:
        """The last `loss`, median `samples_per_second` of the readings, and on a GPU the most memory in use."""
        rate = statistics.median(self.rates) if self.rates else None
        on_gpu = self.accelerator.device.type == "cuda"
        return {
            "loss": self.loss,
            "samples_per_second": rate,
            "peak_gpu_memory_gb": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None,
        }


@dataclass
class Watched:
    """Examples held out and trained on, now at fixed noise and timesteps, and the held-out records to paint."""

    held_out: TrainingExamples
    training: TrainingExamples
    records: datasets.Dataset
    columns: Columns

    def __post_init__(self) -> None:
        for examples in (self.held_out, self.training):
            examples.draws, examples.seed = Draws(strata=examples.pairs), 0


def watched_pairs(pairs: datasets.Dataset) -> datasets.Dataset:
    """A few pairs, chosen once."""
    return pairs.shuffle(seed=0).select(range(min(WATCHED_PAIRS, len(pairs))))


@torch.no_grad()
def fixed_losses(parts: Parts, null: dict[str, Tensor], examples: TrainingExamples, batch_size: int) -> Losses:
    """Mean squared errors over the first pass of the examples: the same pairs, noise and timesteps each time."""
    device = parts.unet.device
    loader = DataLoader(Subset(examples, range(examples.pairs)), batch_size)
    batches = [{name: value.to(device) for name, value in batch.items()} for batch in loader]
    losses = torch.cat([example_losses(parts, null, batch, Objective()) for batch in batches])
    shares = 1 + torch.cat([batch["timestep"] for batch in batches]) * NOISE_BINS // examples.timesteps
    return {int(share): losses[shares == share].mean().item() for share in shares.unique()}


def paint_records(
    parts: Parts, facts: ModelFacts, watched: Watched, prompt: str | None, count: int, seed: int
) -> list[list[Image.Image]]:
    """Input, painted picture and target of the first records, by their own instructions or by `prompt`."""
    records = watched.records.select(range(min(count, len(watched.records))))
    originals, edits = (
        [read_pair_picture(records, row, column) for row in range(len(records))]
        for column in (watched.columns.original, watched.columns.edited)
    )
    prompts = [prompt or own for own in records[watched.columns.prompt]]
    names = [f"validation {number}" for number in range(len(prompts))]
    settings = choose_settings(facts, None, None, DEFAULT_STEPS, seed)
    home = parts.vae.device
    painted = edit_images(pipeline_from_parts(parts).to(parts.unet.device), originals, prompts, names, settings)
    parts.vae.to(home)
    rows = zip(originals, painted, edits, strict=True)
    return [list(row) for row in rows]


def show_records(
    rows: list[list[Image.Image]], facts: ModelFacts, folder: Path, step: int, accelerator: Accelerator
) -> None:
    """Write step-STEP.png, a row a record, and what is in it as sound; the same to TensorBoard if it is on."""
    files.make_folder(folder)
    strip = figures.picture_grid(rows)
    strip.save(folder / f"step-{step}.png")
    boards = [tracker.writer for tracker in accelerator.trackers if tracker.name == "tensorboard"]
    for board in boards:
        board.add_image("input, painted, target", np.asarray(strip)[None], step)
    converter = SpectrogramImageConverter(facts.params, accelerator.device.type)
    for number, (original, painted, target) in enumerate(rows):
        scale = max_value_from_exif(original.getexif())
        sounds = {"input": original, "target": target, f"step-{step}": painted}
        missing = [name for name in sounds if not (folder / f"record-{number}-{name}.wav").exists()]
        for name in missing:  # inputs and targets stay the same: they are sounded once
            waveform = converter.audio_from_spectrogram_image(sounds[name], scale)
            audio.save_wav(folder / f"record-{number}-{name}.wav", waveform, facts.params.sample_rate)
            label = "painted" if name.startswith("step") else name
            for board in boards:
                board.add_audio(f"record {number}, {label}", waveform.mean(axis=0), step, facts.params.sample_rate)
