"""The end of every painting job: an animated comparison, and result.json, which says that the folder is complete."""

from pathlib import Path

from PIL import Image

from riffusion.painting.jobs import Job
from riffusion.painting.measurements import Measurements
from riffusion.painting.result import Result, Track, write_result
from riffusion.painting.retries import Candidate, best
from riffusion.spectrogram import SpectrogramParams
from riffusion.util import figures

COMPARISON = "comparison.webp"


def save_result(
    folder: Path,
    job: Job,
    candidates: list[Candidate],
    tracks: list[Track],
    seconds: float,
    params: SpectrogramParams,
    controls: dict[str, Measurements] | None = None,
) -> None:
    """Write a job's comparison and, last, its result.json into the folder where its `tracks` lie already."""
    pictures = {track.name: Image.open(folder / track.picture) for track in tracks}
    figures.save_animation(folder / COMPARISON, {name: pictures[name] for name in pictures if name != "stem"})
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
        seconds=seconds,
        columns=next(iter(pictures.values())).width,
        min_frequency=params.min_frequency,
        max_frequency=params.max_frequency,
        tracks=tracks,
        comparison=COMPARISON,
    )
    write_result(folder, result)
