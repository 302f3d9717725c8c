"""Painting into a song: candidates are painted and mixed until one performs the edit, and the best one is kept."""

import math
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from riffusion import audio
from riffusion.painting.jobs import SongJob
from riffusion.painting.long_song import Painter, Region, open_song
from riffusion.painting.mixing import Layers, Mixed, Placement, mix_song
from riffusion.painting.options import PaintOptions
from riffusion.painting.results import working_folder
from riffusion.painting.retries import Attempt, Candidate, best, is_settled, plan_rounds
from riffusion.painting.save_result import Signals, save_result
from riffusion.painting.song_report import Overview, StemLayout
from riffusion.pairs.instructions import asked_stem
from riffusion.recordings.recording import open_sound
from riffusion.util import files

SIGNALS = ("input", "painted", "stem")


@dataclass(frozen=True)
class SongPainting:
    """What all candidates of a job share: the song, as the model hears it, and the region to paint.

    `mono` is a file at the model's sample rate, and `region` is counted in its samples.
    """

    job: SongJob
    mono: Path
    region: Region
    painter: Painter

    @property
    def options(self) -> PaintOptions:
        """What the job is asked for."""
        return self.job.options


def paint_song(job: SongJob, painter: Painter) -> None:
    """Paint over a whole song and write its folder, once everything is there."""
    params, options = painter.converter.params, job.options
    with working_folder(job.folder) as folder, tempfile.TemporaryDirectory(dir=folder) as scratch:
        mono, rate = Path(scratch) / "model-input.wav", params.sample_rate
        needed = 4 * math.ceil(job.song.seconds * rate)
        blocks = audio.mixed_blocks(job.song.recording, rate, job.song.downmix)
        samples = audio.write_floats(mono, blocks, rate, needed=needed)
        end = samples if options.end is None else min(int(options.end * rate), samples)
        region = Region(int(options.start * rate), end)
        candidates, drawn = paint_candidates(SongPainting(job, mono, region, painter))
        pictures = {name: drawn[name] for name in SIGNALS}
        for path in keep_best(candidates, Path(scratch)).iterdir():
            path.replace(folder / path.name)
        signals = Signals(pictures, options.format, job.song.seconds, params)
        save_result(folder, job, candidates, signals, never_heard=painter.never_heard(job.prompt))


def paint_candidates(painting: SongPainting) -> tuple[list[Candidate], dict[str, Image.Image]]:
    """Paint all candidates, then retries as long as the edit isn't performed.

    Returns them with the best one's pictures. Each has a folder beside the mono file, named after its number; only the
    best one's is left.
    """
    job, options, scratch = painting.job, painting.options, painting.mono.parent
    candidates: list[Candidate] = []
    pictures: dict[str, Image.Image] = {}
    with open_song(painting.mono, painting.region, painting.painter, job.song.sha256) as song:
        for attempts in plan_rounds(job.settings, options.num_candidates, options.retries):
            noises = [attempt.noise_name(job.song.name) for attempt in attempts]
            painted = song.paint(job.prompt, noises, attempts[0].settings)
            for attempt, latents in zip(attempts, painted, strict=True):
                folder = files.make_folder(scratch / str(attempt.number))
                overview, mixed = mix_candidate(painting, song.stem(latents, job.task), folder)
                candidates.append(measured_candidate(painting, attempt, overview, mixed))
                keep_best(candidates, scratch)
                pictures = overview.pictures() if best(candidates) is candidates[-1] else pictures
            if is_settled(candidates):
                break
    return candidates, pictures


def keep_best(candidates: list[Candidate], folder: Path) -> Path:
    """The best candidate's folder; those of the others are deleted. They lie in `folder`, named after their numbers."""
    kept = best(candidates)
    for candidate in candidates:
        other = folder / str(candidate.attempt.number)
        if candidate is not kept and other.exists():
            shutil.rmtree(other)
    return folder / str(kept.attempt.number)


def mix_candidate(painting: SongPainting, stem: Iterable[np.ndarray], folder: Path) -> tuple[Overview, Mixed]:
    """Mix a painted stem into the song's own samples, measured and drawn on the way.

    The stem comes as float32 blocks (samples,) at the model's rate. The sounds go into `folder`.
    """
    job, song, options, converter = painting.job, painting.job.song, painting.options, painting.painter.converter
    sounds = {name: folder / f"{name}.{options.format}" for name in SIGNALS}
    end = math.inf if options.end is None else options.end
    layers = Layers(song.recording, stem, converter.params.sample_rate, options.start, end)
    signs = song.downmix.signs if job.task.takes_from_input else ()
    placement = Placement(options.stem_gain_db, options.pan, signs)
    region, gains = painting.region, placement.gains(song.channels)
    layout = StemLayout(song.rate, gains, region.start, region.end, song.downmix.loudness_at)
    with open_sound(painting.mono) as heard:
        overview = Overview(converter, heard, job.task, layout)
        mixed = mix_song(layers, job.task, placement, song.bits, sounds, song.tags, overview.update)
        overview.finish()
    return overview, mixed


def measured_candidate(painting: SongPainting, attempt: Attempt, overview: Overview, mixed: Mixed) -> Candidate:
    """A mixed candidate with all that was measured of it."""
    job, analysis = painting.job, overview.analysis()
    stem = asked_stem(job.prompt)
    measured = replace(
        analysis.measurements(job.task, stem),
        limited_db=mixed.limited_db,
        limited_seconds=mixed.limited_seconds,
        samples_cut=mixed.samples_cut,
        clipped_samples=job.song.clipped,
        backing_changed=mixed.backing_changed if audio.FORMATS[painting.options.format].lossless else None,
    )
    return Candidate(attempt, job.task, stem, analysis, measured)
