"""What a training run leaves in its output folder besides the model: names of files, and the record of the run."""

from dataclasses import asdict, dataclass

from riffusion.training.meter import Speed
from riffusion.training.options import TrainOptions
from riffusion.training.sources import CACHES
from riffusion.training.validation import Progress

SETTINGS = "training.json"
RESULT = "result.json"
CHECKPOINTS = "checkpoint-*"
VALIDATION = "validation"  # pictures and sound of validation runs
LOCK = ".training"  # while a run is at work


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended."""

    seconds_to_encode: float  # filling the cache
    step: int  # optimizer steps, with those before a resumed run
    finished: bool  # False if SIGTERM stopped it
    speed: Speed
    progress: Progress

    def as_json(self) -> dict[str, object]:
        """The content of result.json: everything in one flat object."""
        own = {"seconds_to_encode": self.seconds_to_encode, "step": self.step, "finished": self.finished}
        return own | asdict(self.speed) | asdict(self.progress)


def not_uploaded(options: TrainOptions) -> list[str]:
    """Patterns of what stays out of the model's repository."""
    folders = [VALIDATION, options.logging_dir]
    return [SETTINGS, CHECKPOINTS, LOCK, *(f"{name}-*" for name in CACHES), *(f"{folder}/*" for folder in folders)]
