"""The end of every painting job: an animated comparison, and result.json, which says that the folder is complete."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from riffusion.image import save_png
from riffusion.painting.jobs import Job
from riffusion.painting.measurements import Measurements
from riffusion.painting.result import Result, Track, write_result
from riffusion.painting.retries import Candidate, best
from riffusion.spectrogram import SpectrogramParams
from riffusion.util import figures

COMPARISON = "comparison.webp"


@dataclass(frozen=True)
class Signals:
    """What a result holds under names such as "input" and "stem", each as a picture and as a sound of one format."""

    pictures: dict[str, Image.Image]
    format: str
    seconds: float
    params: SpectrogramParams

    def tracks(self) -> list[Track]:
        """The names of their files."""
        return [Track(name, f"{name}.{self.format}", f"{name}.png") for name in self.pictures]


def save_result(
    folder: Path,
    job: Job,
    candidates: list[Candidate],
    signals: Signals,
    controls: dict[str, Measurements] | None = None,
    never_heard: Sequence[str] = (),
) -> None:
    """Write a job's pictures, its comparison and, last, its result.json into the folder where its sounds lie already.

    Raises UserError if they can't be written.
    """
    for name, picture in signals.pictures.items():
        save_png(picture, folder / f"{name}.png")
    compared = {name: picture for name, picture in signals.pictures.items() if name != "stem"}
    figures.save_animation(folder / COMPARISON, compared)
    kept = best(candidates)
    result = Result(
        name=job.folder.name,
        title=job.title,
        prompt=job.prompt,
        task=job.task.name,
        measured=kept.measured,
        controls=controls or {},
        kept=kept.attempt.number,
        attempts=[candidate.record() for candidate in candidates],
        settings=job.recorded,
        seconds=signals.seconds,
        columns=next(iter(signals.pictures.values())).width,
        min_frequency=signals.params.min_frequency,
        max_frequency=signals.params.max_frequency,
        tracks=signals.tracks(),
        comparison=COMPARISON,
        never_heard=tuple(never_heard),
    )
    write_result(folder, result)
