"""Painting jobs: what is painted into, how, and the folder that the result goes to."""

import itertools
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from riffusion.audio import FORMATS
from riffusion.diffusion import model
from riffusion.diffusion.sampling import Settings, choose_settings
from riffusion.painting import results
from riffusion.painting.dataset_items import Item
from riffusion.painting.inputs import InputSong, file_digest
from riffusion.painting.options import PaintOptions
from riffusion.pairs.task_words import read_task
from riffusion.pairs.tasks import Task, task_named
from riffusion.spectrogram import SpectrogramParams
from riffusion.util.devices import choose_dtype
from riffusion.util.disk_space import require_room
from riffusion.util.distributed import Share
from riffusion.util.errors import own_failure
from riffusion.util.names import distinct, safe_name

SLUG_LETTERS = 60  # the part of a folder's name that is taken from the instruction
PACKED_BYTES = 20_000  # more than mp3 and Ogg Vorbis take per second and channel

Source = TypeVar("Source", InputSong, Item)


@dataclass(frozen=True)
class Request(Generic[Source]):
    """One instruction for one song or dataset item, with a guidance, and the folder of its result.

    In `options` no seed need be chosen yet. `title`, `label` and `onto` are those of `SongJob`, where they aren't named
    after the source and the folder.
    """

    source: Source
    prompt: str
    scales: tuple[float | None, float | None]  # of text and image; None stands for the model's own
    folder: Path
    options: PaintOptions
    title: str = ""
    label: str = ""
    onto: Path | None = None


@dataclass(frozen=True)
class SongJob:
    """A song to paint into; `recorded` is all that shapes the result, as result.json has it.

    `options` are those of this song and instruction, `title` is the heading of the result, and `label` what a failure
    is known by.
    """

    song: InputSong
    folder: Path
    prompt: str
    task: Task
    settings: Settings
    recorded: dict[str, object]
    options: PaintOptions
    title: str
    label: str
    onto: Path | None = None  # folder of the result that is painted into; `song` is as long and in the same format


@dataclass(frozen=True)
class ItemJob:
    """A dataset item to paint into; `recorded` is all that shapes the result, as result.json has it."""

    item: Item
    folder: Path
    settings: Settings
    recorded: dict[str, object]

    @property
    def title(self) -> str:
        """Heading of the result."""
        return self.item.title

    @property
    def label(self) -> str:
        """What a failure is known by."""
        return str(self.folder)

    @property
    def prompt(self) -> str:
        """The item's instruction."""
        return self.item.prompt

    @property
    def task(self) -> Task:
        """What is done with the painted stem."""
        return self.item.task


Job = SongJob | ItemJob


def request_songs(songs: Sequence[InputSong], options: PaintOptions) -> list[Request[InputSong]]:
    """Every instruction for every song with every guidance. Folders are named after songs, and after instructions
    where there are several."""
    prompts = options.prompt or ()
    requests = []
    for scales, song, prompt in itertools.product(options.guidance_grid(), songs, dict.fromkeys(prompts)):
        name = song.name if len(prompts) == 1 else named_after(song.name, prompt)
        requests.append(Request(song, prompt, scales, options.guidance_folder(*scales) / name, options))
    return with_distinct_folders(requests)


def request_items(items: Sequence[Item], options: PaintOptions) -> list[Request[Item]]:
    """Every dataset item with every guidance. Folders are named after the item's number and its instruction."""
    requests = []
    for scales, item in itertools.product(options.guidance_grid(), items):
        folder = options.guidance_folder(*scales) / named_after(item.name, item.prompt)
        requests.append(Request(item, item.prompt, scales, folder, options))
    return with_distinct_folders(requests)


def named_after(name: str, prompt: str) -> str:
    """A folder's name from a source's name and the words of an instruction."""
    words = "-".join(re.findall(r"\w+", prompt.lower()))[:SLUG_LETTERS]
    return safe_name(f"{name}-{words}".rstrip("-"))


def with_distinct_folders(requests: list[Request[Source]]) -> list[Request[Source]]:
    """The same requests; where a file system would take two folders for one, the later one gets a number."""
    folders = distinct([str(request.folder) for request in requests])
    return [replace(request, folder=Path(folder)) for request, folder in zip(requests, folders, strict=True)]


def choose_seed(folders: list[Path], options: PaintOptions, share: Share) -> int:
    """The seed that is asked for, or that of an earlier run which left results there, or a random one."""
    if options.seed is not None:
        return options.seed
    earlier = None if options.overwrite else results.earlier_seed(folders)
    return share.agree(secrets.randbelow(2**31) if earlier is None else earlier)


def dtype_name(options: PaintOptions, share: Share) -> str:
    """The name of the dtype that the model computes in, as torch has it."""
    return str(choose_dtype(options.device or share.device, options.precision)).removeprefix("torch.")


def song_jobs(
    requests: list[Request[InputSong]], facts: model.ModelFacts, dtype: str, options: PaintOptions
) -> list[SongJob]:
    """The jobs of songs, each with the settings that result.json is going to record."""
    common = model_record(facts, dtype, options) if requests else {}
    names = ("start", "end", "without_stem", "stem_gain_db", "pan", "format")
    jobs = []
    for request in requests:
        song, asked = request.source, request.options
        task = read_task(request.prompt) if asked.task is None else task_named(asked.task)
        settings = job_settings(request, facts, options)
        below = {"input_sha256": song.sha256} if request.onto is None else {"onto": request.onto.name}
        own = {name: getattr(asked, name) for name in names} | {"bits": song.bits} | below
        recorded = asdict(settings) | {"prompt": request.prompt, "task": task.name} | common | own
        names_of = request.title or song.name, request.label or str(request.folder), request.onto
        jobs.append(SongJob(song, request.folder, request.prompt, task, settings, recorded, asked, *names_of))
    return jobs


def item_jobs(
    requests: list[Request[Item]], facts: model.ModelFacts, dtype: str, options: PaintOptions
) -> list[ItemJob]:
    """The jobs of dataset items, each with the settings that result.json is going to record."""
    common = model_record(facts, dtype, options) if requests else {}
    jobs = []
    for request in requests:
        item, settings = request.source, job_settings(request, facts, options)
        recorded = asdict(settings) | {"prompt": item.prompt, "task": item.task.name} | common | item.digests
        jobs.append(ItemJob(item, request.folder, settings, recorded))
    return jobs


def model_record(facts: model.ModelFacts, dtype: str, options: PaintOptions) -> dict[str, object]:
    """What result.json records of the model and of how often it paints."""
    return {
        "model_id": options.model_id,
        "model_sha256": model.digest(options.model_id),
        "target": facts.target,
        "num_candidates": options.num_candidates,
        "retries": options.retries,
        "dtype": dtype,
    }


def job_settings(request: Request[Source], facts: model.ModelFacts, options: PaintOptions) -> Settings:
    """How a request is sampled: with its own seed or else that of `options`, which must have been chosen."""
    asked = request.options
    seed = options.seed if asked.seed is None else asked.seed
    assert seed is not None
    return choose_settings(
        facts,
        asked.num_inference_steps,
        seed,
        *request.scales,
        scheduler=asked.scheduler,
        guidance_rescale=asked.guidance_rescale,
        guidance_interval=asked.guidance_interval,
        negative_prompt=asked.negative_prompt,
    )


def unfinished_items(jobs: list[ItemJob], options: PaintOptions) -> list[ItemJob]:
    """The jobs that aren't finished. Raises UserError for one that would replace another result."""
    return [job for job in jobs if not results.is_finished(job.folder, job.recorded, options.overwrite)]


def unfinished_songs(jobs: list[SongJob], failures: dict[str, str], options: PaintOptions) -> list[SongJob]:
    """The jobs that aren't finished. One that would replace another result, or for which there is no room, fails."""
    unfinished, finished, taken = [], set[Path](), 0
    for job in jobs:
        with own_failure(job.label, failures):
            if job.onto in finished:
                sha256 = file_digest(job.onto / f"painted.{job.options.format}")
                job = replace(job, recorded=job.recorded | {"input_sha256": sha256})
            if is_finished(job, options.overwrite):
                finished.add(job.folder)
            else:
                kept, working = needed_bytes(job.song, options)
                after = " after those before it" if taken else ""
                require_room(job.folder, taken + kept + working, f"{job.song.name}{after}")
                taken += kept
                unfinished.append(job)
    return unfinished


def is_finished(job: SongJob, overwrite: bool) -> bool:
    """Whether a job's result is there already. Raises UserError if another one is, unless that may be overwritten.

    One that is painted into a result that isn't there yet can't be finished.
    """
    recorded, waits = job.recorded, job.onto is not None and "input_sha256" not in job.recorded
    if waits and (there := results.read_result(job.folder)) is not None:
        recorded = recorded | {"input_sha256": there.settings.get("input_sha256")}
    return results.is_finished(job.folder, recorded, overwrite) and not waits


def piles(jobs: Sequence[SongJob]) -> list[list[SongJob]]:
    """The jobs in piles: each is painted into the song or into the result of one before it in its pile."""
    found: list[list[SongJob]] = []
    place: dict[Path, list[SongJob]] = {}
    for job in jobs:
        pile = place.get(job.onto) if job.onto is not None else None
        if pile is None:
            pile = []
            found.append(pile)
        pile.append(job)
        place[job.folder] = pile
    return found


def song_by_song(piles: Sequence[list[SongJob]]) -> list[list[SongJob]]:
    """The piles in an order in which those of a song follow one another: it is then decoded and encoded once."""
    recordings = [id(pile[0].song.recording) for pile in piles]
    return sorted(piles, key=lambda pile: recordings.index(id(pile[0].song.recording)))


def needed_bytes(song: InputSong, options: PaintOptions) -> tuple[int, int]:
    """Bytes that a song's result takes, and the bytes that are needed besides while it is made."""
    lossless = FORMATS[options.format].lossless
    channel_bytes = song.samples * song.bits // 8 if lossless else int(song.seconds * PACKED_BYTES)
    sounds = 3 * song.channels * channel_bytes
    several = options.num_candidates > 1 or options.retries > 0
    mono = 4 * int(song.seconds * SpectrogramParams.sample_rate)
    return sounds, mono + several * sounds
