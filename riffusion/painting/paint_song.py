"""Painting into a song: candidates are painted and mixed until one performs the edit, and the best one is kept."""

import math
import os
import shutil
import tempfile
from pathlib import Path

import soundfile

from riffusion import audio
from riffusion.image import save_png
from riffusion.painting.jobs import SongJob
from riffusion.painting.long_song import Painter, Region, open_view
from riffusion.painting.mixing import Layers, Placement, backing_changes, mix_song
from riffusion.painting.options import PaintOptions
from riffusion.painting.result import Track
from riffusion.painting.results import working_folder
from riffusion.painting.retries import Attempt, Candidate, best, is_settled, plan_rounds
from riffusion.painting.save_result import save_result
from riffusion.painting.song_report import Overview
from riffusion.recordings.downmix import mixed_blocks
from riffusion.util import files

SIGNALS = ("input", "painted", "stem")


def paint_song(job: SongJob, painter: Painter, options: PaintOptions) -> None:
    """Paint over a whole song and write its folder, once everything is there."""
    rate = painter.converter.params.sample_rate
    with working_folder(job.folder) as folder, tempfile.TemporaryDirectory(dir=folder) as scratch:
        mono = Path(scratch) / "model-input.wav"
        needed = 4 * math.ceil(job.song.seconds * rate)
        blocks = mixed_blocks(job.song.recording, rate, job.song.downmix)
        samples = audio.write_floats(mono, blocks, rate, needed=needed)
        end = samples if options.end is None else min(int(options.end * rate), samples)
        candidates = paint_candidates(job, mono, Region(int(options.start * rate), end), painter, options)
        for path in keep_best(candidates, Path(scratch)).iterdir():
            path.replace(folder / path.name)
        tracks = [Track(name, f"{name}.{options.format}", f"{name}.png") for name in SIGNALS]
        save_result(folder, job, candidates, tracks, job.song.seconds, painter.converter.params)


def paint_candidates(
    job: SongJob, mono: Path, region: Region, painter: Painter, options: PaintOptions
) -> list[Candidate]:
    """Paint all candidates, then retries as long as the edit isn't performed. Only the best one's folder is left.

    `mono` is the song as the model hears it; each candidate has a folder beside it, named after its number.
    """
    candidates: list[Candidate] = []
    with open_view(mono, region, painter) as view:
        for attempts in plan_rounds(job.settings, options.num_candidates, options.retries):
            noises = [attempt.noise_name(job.song.name) for attempt in attempts]
            painted = view.paint(job.prompt, noises, attempts[0].settings)
            for attempt, latents in zip(attempts, painted, strict=True):
                folder = files.make_folder(mono.parent / str(attempt.number))
                stem = folder / "model-stem.wav"
                view.write_stem(stem, latents, job.task)
                candidates.append(mix_candidate(job, attempt, mono, stem, region, painter, options))
                stem.unlink()
                keep_best(candidates, mono.parent)
            if is_settled(candidates):
                break
    return candidates


def keep_best(candidates: list[Candidate], folder: Path) -> Path:
    """The best candidate's folder; those of the others are deleted. They lie in `folder`, named after their numbers."""
    kept = best(candidates)
    for candidate in candidates:
        if candidate is not kept:
            shutil.rmtree(folder / str(candidate.attempt.number), ignore_errors=True)
    return folder / str(kept.attempt.number)


def mix_candidate(
    job: SongJob,
    attempt: Attempt,
    mono: Path,
    mono_stem: Path,
    region: Region,
    painter: Painter,
    options: PaintOptions,
) -> Candidate:
    """Mix a painted stem into the song's own samples, beside the stem's file, with pictures; and measure it."""
    song, folder = job.song, mono_stem.parent
    sounds = {name: folder / f"{name}.{options.format}" for name in SIGNALS}
    layers = Layers(song.recording, mono_stem, options.start, math.inf if options.end is None else options.end)
    signs = song.downmix.signs if job.task.takes_from_input else ()
    placement = Placement(options.stem_gain_db, options.pan, signs)
    limited = mix_song(layers, job.task, placement, song.bits, sounds, song.tags)
    overview = Overview(painter.converter, soundfile.info(os.fsencode(mono)).frames)
    gains = placement.gains(song.channels)
    overview.look(mono, sounds["stem"], job.task, region.start, region.end, gains, song.downmix.loudness_at)
    for name, picture in overview.pictures().items():
        save_png(picture, folder / f"{name}.png")
    more: dict[str, float] = {"limited_db": limited.most_db, "limited_seconds": limited.seconds}
    more |= {"samples_cut": limited.samples, "clipped_samples": song.clipped}
    if audio.FORMATS[options.format].lossless:
        more["backing_changed"] = backing_changes(sounds, job.task, song.bits)
    return Candidate(attempt, job.task, job.prompt, overview.analysis(), more)
