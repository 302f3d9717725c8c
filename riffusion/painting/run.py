"""A run of the inference script: what is to be painted, by this process or by several, and what came of it."""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from riffusion.audio import temporary_folder
from riffusion.diffusion import model
from riffusion.diffusion.encode import unread_text
from riffusion.diffusion.knowledge import load_knowledge
from riffusion.painting import jobs, results
from riffusion.painting.dataset_items import Item, picture_items, read_items
from riffusion.painting.edit_requests import edit_requests, with_result_below
from riffusion.painting.inputs import InputSong, find_inputs, find_pictures, keep_decoded, level_warnings, open_input
from riffusion.painting.jobs import ItemJob, Job, Request, SongJob
from riffusion.painting.long_song import Painter
from riffusion.painting.options import PaintOptions
from riffusion.painting.paint_items import paint_item_jobs
from riffusion.painting.paint_song import paint_song
from riffusion.painting.result import Result, read_result
from riffusion.pairs.pair import PAIR_PICTURES, PAIR_TEXTS
from riffusion.pairs.tasks import task_named
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams
from riffusion.util.devices import choose_dtype
from riffusion.util.disk_space import writing
from riffusion.util.distributed import Share
from riffusion.util.errors import UserError, own_failure
from riffusion.util.runtime import telling_what_is_kept
from riffusion.util.tables import counted

if TYPE_CHECKING:
    import datasets

ORIGINAL_SEED = 364  # with which the original project drew what it painted into


@dataclass
class Run:
    """All jobs of a run, those still to be done, and what failed so far: by song or result, in one line.

    The seed in `options` has been chosen. A run has songs or dataset items, never both.
    """

    options: PaintOptions
    facts: model.ModelFacts
    share: Share
    songs: list[SongJob]
    items: list[ItemJob]
    todo: set[Path]  # folders of the jobs that aren't finished
    failures: dict[str, str]
    painted: set[Path] = field(default_factory=set)  # folders that this process has finished
    seconds: float = 0.0  # that it has painted for

    @property
    def jobs(self) -> Sequence[Job]:
        """The songs' or the items' jobs."""
        return self.songs or self.items

    @property
    def done(self) -> list[Job]:
        """The jobs that didn't fail."""
        return [job for job in self.jobs if job.label not in self.failures]

    @property
    def existing(self) -> list[Job]:
        """The jobs that were done before this run."""
        return [job for job in self.done if job.folder not in self.todo]

    def results(self) -> list[Result]:
        """What the folders of the jobs that are done hold."""
        found = (read_result(job.folder) for job in self.done)
        return [result for result in found if result is not None]

    def paint(self) -> None:
        """Paint this process's share of what is to be done, with a model that is loaded once.

        What fails is noted; the others go on.
        """
        piles = self.share.mine(jobs.piles([job for job in self.songs if job.folder in self.todo]))
        songs = [job for pile in jobs.song_by_song(piles) for job in pile]
        items = self.share.mine([job for job in self.items if job.folder in self.todo])
        painter = load_painter(self.options, self.facts, self.options.device or self.share.device)
        warn_of_prompts(painter, [*songs, *items])
        warn_of_unheard(painter, [*songs, *items])
        warn_of_poor_tasks(painter, [*songs, *items])
        started = time.perf_counter()
        with telling_what_is_kept(self.told_of_rest):
            if songs:
                paint_songs(songs, painter, self)
            if items:
                paint_items_in_batches(items, painter, self)
        self.seconds = time.perf_counter() - started

    def told_of_rest(self) -> str:
        """What an interrupted run has finished, and how to go on, in words."""
        if self.options.writes_files_only:
            return "nothing was written"
        finished = len(self.existing) + len(self.painted)
        on = "the same command goes on"
        return (
            f"{finished} of {counted(len(self.jobs), 'result')} finished and kept; {on}"
            if finished
            else f"nothing was finished; {on}"
        )

    def write_pages(self) -> None:
        """Write the page of every folder of results, and the one over all guidance scales in a search."""
        base, archive_bytes = self.options.base_save_path, int(self.options.zip_mb * 1e6)
        if base.is_dir():
            results.save_failures(base, self.failures)
        for folder in {job.folder.parent for job in self.jobs} - {base}:
            results.write_overview(folder, archive_bytes)
        if self.options.is_search:
            results.write_search(base)
        results.write_overview(base, archive_bytes)


def plan_run(options: PaintOptions, share: Share, scratch: Path) -> Run:
    """Look at everything that is to be painted into, before any work; songs are decoded into `scratch`.

    Raises UserError for a bad dataset or model, and for results that mustn't be replaced. A bad song is a failure of
    that song.
    """
    facts, failures = model.load_facts(options.model_id, config=options.model_config), dict[str, str]()
    song_requests = request_songs(options, facts.params, scratch, failures) if options.paints_songs else []
    item_requests = [] if options.paints_songs else jobs.request_items(open_items(options, facts.params), options)
    if share.is_main and not options.quiet:
        warn_of_levels(song_requests)
    requests: list[Request[InputSong] | Request[Item]] = [*song_requests, *item_requests]
    seedless = [request.folder for request in requests if request.options.seed is None]
    options = replace(options, seed=jobs.choose_seed(seedless, options, share))
    dtype = jobs.dtype_name(options, share)
    song_jobs = jobs.song_jobs(song_requests, facts, dtype, options)
    item_jobs = jobs.item_jobs(item_requests, facts, dtype, options)
    for folder in {options.base_save_path, *(request.folder.parent for request in requests)}:
        results.check_pages(folder)
    unfinished: list[Job] = [*jobs.unfinished_songs(song_jobs, failures, options)]
    unfinished += jobs.unfinished_items(item_jobs, options)
    failures |= share.agree(failures)
    if options.edits is not None:
        require_good_rows(options.edits, failures)
    todo = share.agree({job.folder for job in unfinished})
    return Run(options, facts, share, song_jobs, item_jobs, todo, failures)


def open_items(options: PaintOptions, params: SpectrogramParams) -> list[Item]:
    """The dataset's items, or the pictures given. Raises UserError if they don't suit a model with these params."""
    task, prompts = None if options.task is None else task_named(options.task), options.prompt or ()
    if options.images is not None:
        items = picture_items(find_pictures(options.images), prompts, task)
    else:
        records = open_records(options)
        numbers = chosen_numbers(len(records), options)
        items = read_items(records.select(numbers), task, numbers, prompts)
    for item in items:
        drawn = replace(item.params, num_frames=params.num_frames)
        if drawn != params:
            raise UserError(f"{item.name} uses other spectrogram settings than the model: {drawn}, {params}")
    return items


def open_records(options: PaintOptions) -> "datasets.Dataset":
    """The dataset's held-out records, or all; their true pictures and instructions may be missing."""
    from datasets import disable_progress_bars

    from riffusion.pairs.dataset import held_out_split, load_splits
    from riffusion.pairs.dataset_check import open_pairs

    if options.quiet:
        disable_progress_bars()
    texts = () if options.prompt else PAIR_TEXTS
    found = next(iter(load_splits(options.dataset_id, None, PAIR_PICTURES[:1], texts).values())).column_names
    pictures = [column for column in PAIR_PICTURES if column in found]
    splits = open_pairs(options.dataset_id, None, pictures, texts, lambda note: options.quiet or print(note))
    return held_out_split(splits) or next(iter(splits.values()))


def chosen_numbers(count: int, options: PaintOptions) -> list[int]:
    """Which of a dataset's records are painted into. Raises UserError for one that it hasn't.

    A random order is that of the original project, which drew by `torch.utils.data.random_split` after
    `torch.manual_seed(ORIGINAL_SEED)`: the same items, in the same order, of a dataset of the same size.
    """
    if options.sample_index is not None:
        missing = [number for number in options.sample_index if number >= count]
        if missing:
            raise UserError(f"{options.dataset_id}: has no sample {missing[0]}, only 0 to {count - 1}")
        return list(options.sample_index)
    order = list(range(count))
    if options.sample_order == "random":
        order = torch.randperm(count, generator=torch.Generator().manual_seed(ORIGINAL_SEED)).tolist()
    return order[: options.max_samples]


def open_inputs(
    options: PaintOptions, params: SpectrogramParams, scratch: Path, failures: dict[str, str]
) -> list[InputSong]:
    """The songs that can be painted into; what is wrong with each other one is among the failures.

    Raises UserError if there is none to look at, or if two have one name.
    """
    paths = find_inputs(list(options.audio or ()), in_stems=options.without_stem is not None, quiet=options.quiet)
    names = [path.name for path in paths]
    twice = next((path for path in paths if names.count(path.name) > 1), None)
    if twice is not None:
        raise UserError(f"two songs are named {twice.stem!r}: paint them one at a time, with --name")
    songs: list[InputSong] = []
    for path in paths:
        with own_failure(str(path), failures):
            song = open_input(path, params, scratch, options)
            keep_decoded(songs)
            songs.append(song)
    return songs


def request_songs(
    options: PaintOptions, params: SpectrogramParams, scratch: Path, failures: dict[str, str]
) -> list[Request[InputSong]]:
    """What is asked of songs, by the flags or by a list of edits."""
    if options.edits is not None:
        return edit_requests(options, params, scratch, failures)
    return jobs.request_songs(open_inputs(options, params, scratch, failures), options)


def require_good_rows(edits: Path, failures: dict[str, str]) -> None:
    """Raise UserError if a list of edits has bad rows, after a line for each on stderr."""
    for reason in failures.values():
        print(f"error: {reason}", file=sys.stderr)
    if failures:
        rows = "1 row is" if len(failures) == 1 else f"{len(failures)} rows are"
        raise UserError(f"{edits}: {rows} bad, so nothing is painted")


def warn_of_levels(requests: Sequence[Request[InputSong]]) -> None:
    """Say what is odd about the songs' levels and channels, once for each song."""
    songs = {(one.title or one.source.name, one.source.sha256): one.source for one in requests if one.onto is None}
    for (name, _), song in songs.items():
        for warning in level_warnings(song):
            warn(f"{name}: {warning}")


def warn_of_prompts(painter: Painter, todo: Sequence[Job]) -> None:
    """Say which instructions the model can't read, or not to their end."""
    for prompt in dict.fromkeys(job.prompt for job in todo):
        if not prompt.strip():
            warn("the instruction is empty: the model paints what it likes")
        if unread := unread_text(painter.pipeline.tokenizer, prompt):
            warn(f"the instruction is too long for the model, from {unread[:60]!r} on")


def warn_of_unheard(painter: Painter, todo: Sequence[Job]) -> None:
    """Say which instructions ask for instruments that the model was never trained on, if its folder says on which."""
    for prompt in dict.fromkeys(job.prompt for job in todo):
        if names := painter.never_heard(prompt):
            heard = ", ".join(painter.knowledge.instruments if painter.knowledge else ())
            warn(f"{prompt!r} asks for what the model has never heard ({', '.join(names)}): it was trained on {heard}")


def warn_of_poor_tasks(painter: Painter, todo: Sequence[Job]) -> None:
    """Say which instructions ask for a task that the model's folder says it is no good at."""
    poor = painter.knowledge.poor_tasks if painter.knowledge else ()
    for prompt, task in dict.fromkeys((job.prompt, job.task.name) for job in todo if job.task.name in poor):
        warn(f"{prompt!r} asks this model to {task}, at which it is poor: expect less than the music as it is")


def warn(text: str) -> None:
    """A warning on stderr."""
    print(f"warning: {text}", file=sys.stderr)


def load_painter(options: PaintOptions, facts: model.ModelFacts, device: torch.device) -> Painter:
    """The model on a device. Raises UserError if it can't be had."""
    dtype = choose_dtype(device, options.precision)
    with ThreadPoolExecutor(1) as beside:
        converter = beside.submit(ready_converter, facts.params, str(device))
        pipeline = model.load_pipeline(options.model_id, str(device), dtype, options.model_config)
    if options.compile:
        pipeline.unet.compile()
    knowledge = load_knowledge(options.model_id)
    return Painter(pipeline, converter.result(), facts.target, options.batch_size, options.quiet, knowledge)


def ready_converter(params: SpectrogramParams, device: str) -> SpectrogramConverter:
    """A converter that knows the way back from mel amplitudes, which takes as long to find as a small model to load."""
    converter = SpectrogramConverter(params, device)
    assert converter.inversion.bins
    return converter


def paint_songs(todo: Sequence[SongJob], painter: Painter, run: Run) -> None:
    """Paint into songs, one after another; what is decoded of a song is deleted after its last job."""
    options, failures, failed = run.options, run.failures, set[Path]()
    for job, following in zip_longest(todo, todo[1:]):
        needed = sum(jobs.needed_bytes(job.song, options))
        with own_failure(job.label, failures), writing(job.folder, needed):
            if job.onto in failed:
                raise UserError(f"{job.label}: was to be painted into {job.onto}, which failed")
            if not options.quiet:
                print(f"{job.song.name}: {job.prompt}")
            paint_into(job, painter)
            run.painted.add(job.folder)
        if job.label in failures:
            failed.add(job.folder)
        if following is None or following.song.recording is not job.song.recording:
            job.song.recording.release()


def paint_into(job: SongJob, painter: Painter) -> None:
    """Paint into a song, or into another job's result as soon as that is there, unless that has been done."""
    if job.onto is None:
        paint_song(job, painter)
        return
    with temporary_folder() as scratch:
        job = with_result_below(job, painter.converter.params, scratch)
        if not jobs.is_finished(job, job.options.overwrite):
            paint_song(job, painter)


def paint_items_in_batches(todo: Sequence[ItemJob], painter: Painter, run: Run) -> None:
    """Paint over the pictures of items; those that are sampled alike go together."""
    options, failures = run.options, run.failures
    steps = options.num_candidates * options.num_inference_steps  # per item; retries come on top
    with tqdm(total=len(todo) * steps, unit="step", desc="painting", disable=options.quiet) as progress:
        done = 0
        for _, group in groupby(todo, key=lambda job: job.settings):
            alike = list(group)
            for first in range(0, len(alike), options.batch_size):
                batch = alike[first : first + options.batch_size]
                progress.set_postfix_str(f"{done} of {len(todo)} samples done, {batch[0].settings.guidance}")
                try:
                    paint_item_jobs(batch, painter, progress, options)
                    run.painted |= {job.folder for job in batch}
                except Exception:  # whose failure it is shows when each is painted alone
                    for job in batch:
                        with own_failure(str(job.folder), failures), writing(job.folder):
                            paint_item_jobs([job], painter, progress, options)
                            run.painted.add(job.folder)
                done += len(batch)
        progress.set_postfix_str(f"{done} of {len(todo)} samples done")
