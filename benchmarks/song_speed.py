"""How long a song takes, stage by stage and from the shell to the page: for `inference.py`."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import soundfile
from harness import Records
from watching import watch
from whole_songs import load_stems, sum_stems

from riffusion import audio
from riffusion.painting.api import load_model, plan_job
from riffusion.painting.long_song import Region, open_song
from riffusion.painting.options import PaintOptions
from riffusion.painting.paint_song import SongPainting, measured_candidate, mix_candidate
from riffusion.painting.retries import plan_rounds
from riffusion.painting.save_result import Signals, save_result
from riffusion.pairs.stems import example_song
from riffusion.util import files

SCRIPT = Path(__file__).resolve().parent.parent / "inference_instruct_pix2pix.py"
PROMPT = "add a female vocal"
FIRST_SECONDS = 6.0  # of a song whose first clip somebody waits for
RATE = 44100


class Stages:
    """Seconds and CPU seconds of stages, one after another."""

    def __init__(self) -> None:
        self.spent: list[tuple[str, float, float]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What happens here belongs to a stage."""
        seconds, cpu = time.perf_counter(), time.process_time()
        yield
        self.spent.append((name, time.perf_counter() - seconds, time.process_time() - cpu))

    def rows(self) -> Records:
        """As a table."""
        total = sum(cpu for _, _, cpu in self.spent)
        return [
            {"stage": name, "seconds": seconds, "CPU s": cpu, "share of CPU %": 100 * cpu / total, "peak MB": None}
            for name, seconds, cpu in self.spent
        ]


def write_song(seconds: float, folder: Path) -> Path:
    """A stereo song of some length without vocals: the example, over and over."""
    backing = sum_stems(load_stems(example_song(), RATE), "vocals")
    samples = round(seconds * RATE)
    path = files.make_folder(folder) / f"song-{seconds:g}.wav"
    soundfile.write(path, np.tile(backing, -(-samples // backing.shape[1]))[:, :samples].T, RATE, subtype="PCM_16")
    return path


def song_rows(model_id: str, seconds: float, steps: int, folder: Path) -> Records:
    """A song's stages by themselves, one after another, and the script as it is, which lets some of them overlap."""
    song, stages = write_song(seconds, folder), Stages()
    options = PaintOptions(
        model_id=model_id, audio=(str(song),), prompt=(PROMPT,), seed=0, num_inference_steps=steps, quiet=True
    )
    with stages.stage("load the model"):
        painter = load_model(model_id).painter
    scratch = files.make_folder(folder / "stages")
    with stages.stage("read the song"):
        job = plan_job(song, scratch, options)
        mono = scratch / "mono.wav"
        rate = painter.converter.params.sample_rate
        samples = audio.write_floats(mono, audio.mixed_blocks(job.song.recording, rate, job.song.downmix), rate)
    painting = SongPainting(job, mono, Region(0, samples), painter)
    ((attempt,),) = plan_rounds(job.settings, 1, 0)
    with ExitStack() as stack:
        with stages.stage("encode"):
            tiled = stack.enter_context(open_song(mono, painting.region, painter))
        with stages.stage("paint: the UNet"):
            (latents,) = tiled.paint(PROMPT, [job.song.name], attempt.settings)
        with stages.stage("decode, find the phase"):
            stem = list(tiled.stem(latents, job.task))
    with stages.stage("mix, measure, write"):
        overview, mixed = mix_candidate(painting, iter(stem), scratch)
        candidates = [measured_candidate(painting, attempt, overview, mixed)]
        signals = Signals(overview.pictures(), "wav", job.song.seconds, painter.converter.params)
        save_result(scratch, job, candidates, signals)
    return [*stages.rows(), script_row("the script", model_id, song, steps, folder)]


def script_row(name: str, model_id: str, song: Path, steps: int, folder: Path) -> dict[str, object]:
    """What the script takes with a song, in a process of its own."""
    command = [sys.executable, str(SCRIPT), "--model_id", model_id, "--audio", str(song), "--prompt", PROMPT]
    command += ["--seed", "0", "--num_inference_steps", str(steps), "--quiet", "--overwrite"]
    before = children_cpu_seconds()
    taken = watch([*command, "--base_save_path", str(folder / "script")], with_memory=True)
    cpu = children_cpu_seconds() - before
    return {"stage": name, "seconds": taken.seconds, "CPU s": cpu, "share of CPU %": None, "peak MB": taken.peak_mb}


def children_cpu_seconds() -> float:
    """CPU seconds of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def start_rows(model_id: str, steps: int, repeats: int, folder: Path) -> Records:
    """From the shell to the page of a short song, some times over; the first may read files that others find cached."""
    song = write_song(FIRST_SECONDS, folder)
    return [script_row(f"run {number + 1}", model_id, song, steps, folder) for number in range(repeats)]
