"""Painting into an array: what `riffusion.paint` does, by the same way as the inference script."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from riffusion import audio as audio_files
from riffusion.diffusion import model
from riffusion.painting import jobs
from riffusion.painting.inputs import open_input
from riffusion.painting.long_song import Painter
from riffusion.painting.measurements import Measurements
from riffusion.painting.options import PaintOptions
from riffusion.painting.paint_song import paint_song
from riffusion.painting.result import Result, read_result
from riffusion.painting.run import load_painter
from riffusion.util.distributed import this_share
from riffusion.util.errors import UserError
from riffusion.util.runtime import quiet_libraries

LOADING = ("model_id", "model_config", "device", "precision", "compile")  # options that say how a model is loaded


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, loaded as `options` say, to paint with any number of times."""

    options: PaintOptions
    painter: Painter

    def options_with(self, given: dict[str, Any]) -> PaintOptions:
        """Options for painting with it. Raises UserError if some of those given say how a model is loaded."""
        if late := [name for name in given if name in LOADING]:
            raise UserError(f"{', '.join(late)}: must be given when the model is loaded")
        return replace(self.options, **given)


def load_model(model_id: str, **options: Any) -> LoadedModel:
    """A model, loaded as the options in `LOADING` say. Raises UserError if it can't be had, or for other options."""
    if others := [name for name in options if name not in LOADING]:
        raise UserError(f"{', '.join(others)}: must be given when something is painted")
    chosen = PaintOptions(model_id=model_id, quiet=True, **options)
    device = this_share().device if chosen.device is None else torch.device(chosen.device)
    facts = model.load_facts(model_id, config=chosen.model_config)
    with quiet_libraries():
        return LoadedModel(replace(chosen, device=device), load_painter(chosen, facts, device))


@dataclass(frozen=True)
class Painting:
    """What was painted into a recording.

    `painted` is the recording with the edit and `stem` the painted part alone, both float32 (channels, samples) at the
    recording's sample rate. `measurements` say what was measured of the stem, and `result` all that result.json holds.
    """

    painted: np.ndarray
    stem: np.ndarray
    sample_rate: int
    result: Result

    @property
    def measurements(self) -> Measurements:
        """What was measured of the stem."""
        return self.result.measured

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from riffusion.painting.notebook import painting_html

        return painting_html(self.result, {"painted": self.painted, "stem": self.stem}, self.sample_rate)


def paint_array(
    audio: np.ndarray, sample_rate: int, options: PaintOptions, loaded: LoadedModel | None = None
) -> Painting:
    """Paint into a recording, float (channels, samples) in [-1, 1] or (samples,), as the options say.

    Without a loaded model theirs is loaded, when it is known that the recording can be painted into. Raises UserError
    if it can't be, or the model can't be had.
    """
    audio = np.atleast_2d(np.asarray(audio, dtype=np.float32))
    device = this_share().device if options.device is None else torch.device(options.device)
    if audio.ndim != 2:
        raise UserError(f"audio must be (channels, samples) or (samples,), not of shape {audio.shape}")
    with audio_files.temporary_folder() as scratch:
        path = scratch / "audio.wav"
        audio_files.write_floats(path, [audio], sample_rate, len(audio))
        job = plan_job(
            path, scratch, replace(options, audio=(str(path),), base_save_path=scratch / "out", device=device)
        )
        loaded = loaded or load_model(**{name: getattr(options, name) for name in LOADING})
        paint_song(job, replace(loaded.painter, batch_size=options.batch_size))
        result = read_result(job.folder)
        assert result is not None
        sounds = {track.name: audio_files.load_audio(job.folder / track.sound)[0] for track in result.tracks}
        return Painting(sounds["painted"], sounds["stem"], sample_rate, result)


def plan_job(path: Path, scratch: Path, options: PaintOptions) -> jobs.SongJob:
    """The one job of a file's only instruction."""
    facts = model.load_facts(options.model_id, config=options.model_config)
    song = open_input(path, facts.params, scratch, options)
    share = this_share()
    (request,) = jobs.request_songs([song], options)
    options = replace(options, seed=jobs.choose_seed([request.folder], options, share))
    (job,) = jobs.song_jobs([request], facts, jobs.dtype_name(options, share), options)
    return job
