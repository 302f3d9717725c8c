"""Paint a part into music by instruction, or into the pictures of a dataset.

    python inference_instruct_pix2pix.py --model_id checkpoints/small --audio song.wav --prompt "add a female vocal"
    python inference_instruct_pix2pix.py --seed --max_samples 10 --num_inference_steps 100

Each sample gets a folder in --base_save_path, and index.html there shows all of them: pictures, players, measurements.
A song, of any length, rate and number of channels, comes back as input.wav, painted.wav (the input and the new part)
and stem.wav (the new part alone). "Remove the bass" subtracts the painted stem from the input, "extract the bass"
outputs only the painted stem. The input is never touched: in wav and flac, painted minus stem is the input to the last
bit. The pictures of a dataset are rendered as audio beside those that they should become. An interrupted run resumes.
"""

import argparse
import itertools
import math
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import datasets
import soundfile
import torch
from PIL import Image
from tqdm import tqdm

from riffusion import audio
from riffusion.diffusion import model
from riffusion.diffusion.encode import unread_text
from riffusion.diffusion.sampling import Settings, choose_settings, edit_images
from riffusion.diffusion.schedulers import DEFAULT_SCHEDULER, DEFAULT_STEPS, SCHEDULERS
from riffusion.image import image_from_spectrogram, save_png
from riffusion.painting import columns, results
from riffusion.painting.dataset_items import OUTSIDE, Sample, Sounding, read_samples
from riffusion.painting.inputs import STDIN, InputSong, find_songs, read_song
from riffusion.painting.long_song import Painter, Region, open_view, unedited_images
from riffusion.painting.mixing import Layers, Placement, backing_changes, mix_song
from riffusion.painting.retries import Attempt, Tried, best, is_settled, plan_rounds
from riffusion.painting.song_report import Overview
from riffusion.pairs.dataset import held_out_split
from riffusion.pairs.dataset_check import open_pairs
from riffusion.pairs.instructions import asked_stem
from riffusion.pairs.task_words import read_instruction, read_task
from riffusion.pairs.tasks import TASKS, Task, task_named
from riffusion.recordings.downmix import mixed_blocks
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams
from riffusion.util import figures, files, names, tables
from riffusion.util.disk_space import require_room, writing
from riffusion.util.distributed import Share, this_share
from riffusion.util.errors import UserError, own_failure
from riffusion.util.flags import PRECISIONS, Help, torch_device
from riffusion.util.runtime import choose_dtype, hide_library_progress, run_script

LOSSLESS = ("wav", "flac")
COMPARISON = "comparison.webp"
MOST_STEPS = 1000  # that a model is trained with
LEAST_SECONDS = 0.1  # of a song that are painted
LEAST_SONG_SECONDS = 1.0  # of a song; one that is shorter than a clip is followed by silence
SILENT_POWER = 1e-14  # mean square of a song that no format can hold
LEAST_OVER_LAST_BIT_DB = 20.0  # of a song's level over its format's last bit, so that a softer part is still a part
SLUG_LETTERS = 60  # of an instruction in a folder's name
PACKED_BYTES = 20_000  # a second and channel of mp3 or Ogg Vorbis, more than they take
WAV_BYTES = 2**32  # that its header can count


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument_group("what is painted into").add_argument
    add("--model_id", default="zachary-shah/riff-pix2pix-v1", help="model folder or Hub name (default: %(default)s)")
    add("--dataset_id", default="zachary-shah/musdb18-spec-pix2pix-test", help="dataset folder or Hub name")
    add("--max_samples", type=int, default=25, help="most records of the dataset to edit (default: %(default)s)")
    add(
        "--audio", nargs="+", metavar="FILE", help="songs: files, patterns, folders; - for stdin (default: the dataset)"
    )
    add(
        "--prompt",
        action="append",
        help="instruction for --audio, needed there; several give one result each (default: none)",
    )
    add(
        "--task",
        choices=[task.name for task in TASKS],
        help="what becomes of the painted stem (default: what the instruction says)",
    )
    add("--without_stem", metavar="STEM", help="of a song in stems (.stem.mp4), leave out this one (default: none)")
    add("--start", type=seconds, default=0.0, metavar="TIME", help="paint from here on, as 75.5 or 1:15.5 (default: 0)")
    add("--end", type=seconds, metavar="TIME", help="stop painting here (default: the song's end)")

    add = parser.add_argument_group("what comes out").add_argument
    add("--base_save_path", type=Path, default=Path("outputs"), help="where results go (default: %(default)s)")
    add("--name", help="name of the result's folder (default: the song's name)")
    add("--overwrite", action="store_true", help="replace existing results")
    add("--stem_gain_db", type=float, default=0.0, help="make the painted stem louder or softer (default: 0)")
    add("--pan", type=float, default=0.0, help="where the stem is in stereo, from -1 (left) to 1 (default: the centre)")
    add("--format", choices=audio.FORMATS, default="wav", help="of the sound files (default: %(default)s)")
    add("--bits", type=int, choices=[16, 24, 32], help="of wav and flac (default: as many as the input has)")
    add("--require_edit", action="store_true", help="exit with 1 if an edit to add or keep was not performed")
    add("--quiet", action="store_true", help="no progress bars and no tables")

    add = parser.add_argument_group("how it is painted").add_argument
    add("--seed", type=int, nargs="?", const=0, help="fix the noise; alone it means 0 (default: a random one)")
    add("--num_inference_steps", type=int, default=DEFAULT_STEPS, help="denoising steps (default: %(default)s)")
    add("--scheduler", choices=SCHEDULERS, default=DEFAULT_SCHEDULER, help="how steps are taken (default: %(default)s)")
    several = "several values make a grid with a page of its own"
    add("--guidance_scale", type=float, nargs="+", help="text guidance (default: the model's, else 15); " + several)
    add("--image_guidance_scale", type=float, nargs="+", help="image guidance (default: the model's, else 1.5)")
    rescale = "0 to 1: rescale to the unguided standard deviation (default: 0)"
    add("--guidance_rescale", type=float, default=0.0, help=rescale)
    interval = "share of the steps that are guided (default: 0 1); fewer are faster"
    add("--guidance_interval", type=float, nargs=2, default=(0.0, 1.0), metavar=("FROM", "TO"), help=interval)
    add("--negative_prompt", default="", help="what not to paint (default: nothing)")
    add("--num_candidates", type=int, default=1, help="paint this many and keep the best (default: 1)")
    again = "paint again, up to this many times, while an edit to add or keep isn't performed (default: 0)"
    add("--retries", type=int, default=0, help=again)

    add = parser.add_argument_group("what it runs on").add_argument
    add("--batch_size", type=int, default=4, help="clips sampled together (default: %(default)s)")
    add("--device", type=torch_device, help="torch device (default: the GPU if there is one)")
    add("--precision", choices=PRECISIONS, help="of the model (default: bf16 where the device has it, else fp32)")
    add("--compile", action="store_true", help="torch.compile the UNet: a slow first step, then faster on a GPU")
    args = parser.parse_args(argv)
    check_args(args, parser)
    return args


def check_args(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse what can't be meant, and fill in what depends on the machine."""
    if (args.audio is None) != (args.prompt is None):
        parser.error("--audio and --prompt go together")
    if args.name and (args.audio is None or len(args.audio) > 1):
        parser.error("--name names the result of one --audio file")
    if args.name and (args.name != Path(args.name).name or args.name.startswith(".")):
        parser.error("--name must be the name of a folder, not a path")
    if args.audio and STDIN in args.audio and (len(args.audio) > 1 or len(args.prompt) > 1):
        parser.error("--audio - takes one song from stdin, with one --prompt, and writes one to stdout")
    if args.audio == [STDIN] and args.without_stem:
        parser.error("--without_stem needs a song in stems, which can't come from stdin")
    for name in ("prompt", "negative_prompt"):
        asked = getattr(args, name)
        readable = [names.utf8(text) for text in ([asked] if isinstance(asked, str) else asked or [])]
        if None in readable:
            parser.error(f"--{name} isn't UTF-8")
        if asked:
            setattr(args, name, readable[0] if isinstance(asked, str) else readable)
    if args.end is not None and args.end <= args.start:
        parser.error("--end must be after --start")
    if args.audio is None:
        for name in ("start", "end", "without_stem", "stem_gain_db", "pan", "format", "bits"):
            if getattr(args, name) != parser.get_default(name):
                parser.error(f"--{name} is for --audio: a dataset's pictures have no sound of their own")
    for scale in [*(args.guidance_scale or []), *(args.image_guidance_scale or [])]:
        if not math.isfinite(scale):
            parser.error("--guidance_scale and --image_guidance_scale must be finite")
    if args.num_inference_steps > MOST_STEPS:
        parser.error(f"--num_inference_steps must be at most {MOST_STEPS}")
    for name, low, high in (("pan", -1, 1), ("stem_gain_db", -60, 60), ("guidance_rescale", 0, 1)):
        if not low <= getattr(args, name) <= high:
            parser.error(f"--{name} must be from {low} to {high}")
    if not 0 <= args.guidance_interval[0] < args.guidance_interval[1] <= 1:
        parser.error("--guidance_interval must be two shares of the steps, from 0 to 1")
    for name in ("max_samples", "num_inference_steps", "batch_size", "num_candidates"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    for name in ("seed", "retries"):
        if (getattr(args, name) or 0) < 0:
            parser.error(f"--{name} must not be negative")
    if args.seed is not None and args.seed >= 2**31:
        parser.error(f"--seed must be below {2**31}")


def seconds(text: str) -> float:
    """A time in a song, as 75.5 or 1:15.5 or 0:01:15.5."""
    value = 0.0
    for part in text.split(":"):
        value = 60 * value + float(part)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value


@dataclass(frozen=True)
class Job:
    """A sample to paint: what into, by which instruction, how, and the folder that the result goes to."""

    source: InputSong | Sample
    folder: Path
    prompt: str
    task: Task
    settings: Settings
    recorded: dict[str, object]  # all that shapes the result, as result.json has it

    @property
    def name(self) -> str:
        """What tells it from the others, for people: its folder, with the one around it."""
        return str(self.folder)


def main(args: argparse.Namespace) -> int:
    started, share = time.perf_counter(), this_share()
    failures: dict[str, str] = {}  # by song or result, in one line
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if args.quiet:
            hide_library_progress()
        if piped(args):
            check_pipes(share)
            stack.enter_context(redirect_stdout(sys.stderr))
            args.base_save_path = scratch / "results"
        facts = model.load_facts(args.model_id)
        sources = find_sources(facts.params, scratch, failures, args)
        if args.audio is not None and share.is_main and not args.quiet:
            warn_of_levels(sources)
        jobs = plan_jobs(sources, facts, share, args)
        for folder in {args.base_save_path, *(job.folder.parent for job in jobs)}:
            results.check_pages(folder)
        todo = unfinished(jobs, failures, share, args)
        tell_failures(failures, is_all=not any(job.name not in failures for job in jobs))
        if share.is_main:
            tell_tasks(jobs, args)
        try:
            if todo:
                paint(share.mine(todo), facts, failures, share, args)
            failures = share.gather(failures)
        finally:
            if share.is_main:
                write_pages(jobs, failures, args)
        done = [job for job in jobs if job.name not in failures]
        if share.is_main:
            tell(done, todo, time.perf_counter() - started, args)
            tell_failures(failures, is_all=not done)
        if piped(args):
            write_to_stdout(done[0].folder / f"painted.{args.format}")
        share.wait()
    not_performed = any(result["measured"]["edit performed"] == "no" for result in load_results(done))
    return 2 if failures else int(args.require_edit and not_performed)


def unfinished(jobs: list[Job], failures: dict[str, str], share: Share, args: argparse.Namespace) -> list[Job]:
    """The jobs to be done: not those that are done, that would replace another result, or that have no room."""
    todo, taken = [], 0
    for job in jobs:
        if isinstance(job.source, Sample):
            todo += [] if results.is_finished(job.folder, job.recorded, args.overwrite) else [job]
            continue
        with own_failure(job.name, failures):
            if not results.is_finished(job.folder, job.recorded, args.overwrite):
                kept, working = needed_bytes(job.source, args)
                after = " after those before it" if taken else ""
                require_room(job.folder, taken + kept + working, f"{job.source.name}{after}")
                taken += kept
                todo.append(job)
    failures |= share.agree(failures)
    chosen = share.agree([job.name for job in todo])
    return [job for job in jobs if job.name in chosen]


def needed_bytes(song: InputSong, args: argparse.Namespace) -> tuple[int, int]:
    """Bytes that a song's result takes, and what more there is of it while it is made."""
    channel_bytes = song.samples * song.bits // 8 if args.format in LOSSLESS else int(song.seconds * PACKED_BYTES)
    sounds = 3 * song.channels * channel_bytes
    others = args.num_candidates > 1 or args.retries > 0
    mono = 4 * int(song.seconds * SpectrogramParams.sample_rate)
    return sounds, 2 * mono + others * sounds


def tell_tasks(jobs: list[Job], args: argparse.Namespace) -> None:
    """Say which task each instruction is taken for, and warn where that is doubtful."""
    for prompt, task in dict.fromkeys((job.prompt, job.task) for job in jobs):
        if not args.quiet:
            print(f"task {task}: {prompt!r}")
        doubt = read_instruction(prompt).warning
        if doubt and args.task is None and any(isinstance(job.source, InputSong) for job in jobs):
            print(f"warning: {prompt!r} is taken for {task.name!r}: {doubt}; --task says otherwise", file=sys.stderr)


def piped(args: argparse.Namespace) -> bool:
    """Whether the song comes from standard input, and the result goes to standard output."""
    return args.audio == [STDIN]


def check_pipes(share: Share) -> None:
    """Refuse --audio - where there is no one process that reads, or nobody to write to."""
    if share.count > 1:
        raise UserError("--audio - reads stdin, which several processes can't share")
    if sys.__stdin__ is None:
        raise UserError("standard input is closed, and the song was to come from there")
    if sys.__stdout__ is None:
        raise UserError("standard output is closed, and the painted song was to go there")


def write_to_stdout(path: Path) -> None:
    """A file's bytes to standard output. Raises UserError if it takes no more; then the file is kept elsewhere."""
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                while block:
                    block = block[os.write(sys.__stdout__.fileno(), block) :]
    except OSError as error:
        reason = "its reader went away" if isinstance(error, BrokenPipeError) else error.strerror
        kept = shutil.move(path, tempfile.mkdtemp(prefix="painted-"))
        raise UserError(f"standard output: {reason}; the painted song is kept as {kept}") from error


def tell_failures(failures: dict[str, str], is_all: bool) -> None:
    """A line each on stderr. Where nothing else came out, the first is raised as a UserError."""
    first, *others = failures.values() if is_all else ("", *failures.values())
    for reason in others:
        print(f"error: {reason}", file=sys.stderr)
    if is_all:
        raise UserError(first)


def find_sources(
    params: SpectrogramParams, scratch: Path, failures: dict[str, str], args: argparse.Namespace
) -> list[InputSong] | list[Sample]:
    """What is to be painted into, all of it looked at: bad input is told before any work. Raises UserError."""
    if args.audio is None:
        splits = open_pairs(args.dataset_id, tell=lambda note: args.quiet or print(note))
        records: datasets.Dataset = held_out_split(splits) or next(iter(splits.values()))
        chosen = records.select(range(min(args.max_samples, len(records))))
        samples = read_samples(chosen, args.task and task_named(args.task))
        drawn = replace(samples[0].params, num_frames=params.num_frames)
        if drawn != params:
            raise UserError(f"the dataset's pictures use other spectrogram settings than the model: {drawn}, {params}")
        return samples
    paths = find_songs(args.audio, in_stems=args.without_stem is not None, quiet=args.quiet)
    twice = next((path for path in paths if [other.name for other in paths].count(path.name) > 1), None)
    if twice is not None:
        raise UserError(f"two of the songs are named {twice.stem!r}: paint them one at a time, with --name")
    songs = []
    for path in paths:
        with own_failure(str(path), failures):
            song = find_song(path, params, scratch, args)
            if songs:  # of several only one is there decoded at a time: they may be more than the disk holds
                songs[-1].recording.release()
            songs.append(song)
    return songs


def find_song(path: Path, params: SpectrogramParams, scratch: Path, args: argparse.Namespace) -> InputSong:
    """A song that is looked through. Raises UserError if it can't be painted into as the flags say, or not written."""
    song = read_song(path, args.name, args.without_stem, args.bits, scratch)
    least = min(LEAST_SONG_SECONDS, params.clip_seconds)
    if song.seconds < least:
        raise UserError(f"{path}: {song.seconds:.3f} s is too short, less than {least:g} s")
    if args.start >= song.seconds:
        raise UserError(f"{path}: --start {args.start} is beyond its end, {song.seconds:.3f} s")
    if min(args.end or math.inf, song.seconds) - args.start < LEAST_SECONDS:
        raise UserError(f"{path}: from --start to --end there is less than {LEAST_SECONDS} s to paint")
    if args.pan and song.channels != 2:
        raise UserError(f"{path}: --pan needs a stereo song, and this one has {song.channels} channels")
    if args.format == "wav" and song.samples * song.channels * song.bits // 8 >= WAV_BYTES:
        raise UserError(f"{path}: is longer than a wav file can be; pass --format flac")
    trial = files.make_folder(scratch / "trial") / f"{song.name}.{args.format}"
    try:
        tags = audio.carried_tags(song.tags, trial, song.rate, song.channels, song.bits)
    except UserError as error:  # which names the trial's temporary file
        raise UserError(f"{path}: the result {str(error).removeprefix(f'{trial}: ')}") from error
    trial.unlink()
    if lost := ", ".join(name for name in song.tags if name not in tags):
        print(f"warning: {path}: a {args.format} file can't have its {lost} as it is; left out", file=sys.stderr)
    audio.tell_faults(song.recording)
    return replace(song, tags=tags)


def warn_of_levels(songs: list[InputSong]) -> None:
    """Say what is odd about the songs' levels and channels."""
    for song in songs:
        level = 10 * math.log10(max(song.downmix.power, SILENT_POWER))
        odd = []
        if song.downmix.power <= SILENT_POWER:
            odd.append("is silent: a part that goes with it is silent, too")
        elif level < 20 * math.log10(2.0 ** (1 - song.bits)) + LEAST_OVER_LAST_BIT_DB:
            odd.append(f"of {song.bits} bits hardly one is left for a part beside {level:.0f} dBFS: pass more --bits")
        if song.downmix.cancels:
            odd.append("its channels cancel in their mean: the model is shown what is heard in them")
        if song.downmix.lifted:
            odd.append("holds an offset or a rumble that nobody hears: the model is shown the song without it")
        for reason in odd:
            print(f"warning: {song.name}: {reason}", file=sys.stderr)


def plan_jobs(
    sources: list[InputSong] | list[Sample], facts: model.ModelFacts, share: Share, args: argparse.Namespace
) -> list[Job]:
    """A job for each guidance, source and instruction. Without --seed an earlier run's is taken up, or one is drawn."""
    common = {"model_id": args.model_id, "model_sha256": model.digest(args.model_id), "target": facts.target}
    common |= {"num_candidates": args.num_candidates, "retries": args.retries}
    common |= {"dtype": str(choose_dtype(args.device or share.device, args.precision)).removeprefix("torch.")}
    if args.audio is not None:
        names = ("start", "end", "without_stem", "stem_gain_db", "pan", "format")
        common |= {name: getattr(args, name) for name in names}
    asked = itertools.product(guidance_grid(args), sources, dict.fromkeys(args.prompt or [None]))
    plans = [(scales, source, source.prompt if prompt is None else prompt) for scales, source, prompt in asked]
    folders = different([guidance_folder(scales, args) / folder_name(*rest, args) for scales, *rest in plans])
    if args.seed is None:
        earlier = None if args.overwrite else results.earlier_seed(folders)
        args.seed = share.agree(secrets.randbelow(2**31) if earlier is None else earlier)
    jobs = []
    for (scales, source, prompt), folder in zip(plans, folders, strict=True):
        own = {"bits": source.bits} if isinstance(source, InputSong) else {"target_sha256": source.target_sha256}
        task = source.task if isinstance(source, Sample) else task_of_song(prompt, args)
        settings = sampling_settings(scales, facts, args)
        told = asdict(settings) | {"prompt": prompt, "task": task.name} | common | own | {"input_sha256": source.sha256}
        jobs.append(Job(source, folder, prompt, task, settings, told))
    return jobs


def task_of_song(prompt: str, args: argparse.Namespace) -> Task:
    """What becomes of the stem that is painted into a song: as --task says, or else the instruction."""
    return read_task(prompt) if args.task is None else task_named(args.task)


def guidance_grid(args: argparse.Namespace) -> list[tuple[float | None, float | None]]:
    """Text and image guidance of every run; None stands for the model's own."""
    texts, images = args.guidance_scale or [None], args.image_guidance_scale or [None]
    return list(itertools.product(dict.fromkeys(texts), dict.fromkeys(images)))


def guidance_folder(scales: tuple[float | None, float | None], args: argparse.Namespace) -> Path:
    """Where the results with this guidance go: a folder of its own only if there are several."""
    if len(guidance_grid(args)) == 1:
        return args.base_save_path
    said = [f"{name}-{scale:g}" for name, scale in zip(("text", "image"), scales, strict=True) if scale is not None]
    return args.base_save_path / "-".join(said)


def different(folders: list[Path]) -> list[Path]:
    """The same folders, numbered where one comes again, or another that a file system may take for it."""
    new: dict[Path, Iterator[str]] = {}
    for parent in {folder.parent for folder in folders}:
        new[parent] = iter(names.distinct([folder.name for folder in folders if folder.parent == parent]))
    return [folder.with_name(next(new[folder.parent])) for folder in folders]


def folder_name(source: InputSong | Sample, prompt: str, args: argparse.Namespace) -> str:
    """A name for a person to find: the song's, or the sample's number and its instruction."""
    if isinstance(source, InputSong) and len(args.prompt) == 1:
        return source.name
    words = "-".join(re.findall(r"\w+", prompt.lower()))[:SLUG_LETTERS]
    return names.folder_name(f"{source.name}-{words}".rstrip("-"))


def sampling_settings(
    scales: tuple[float | None, float | None], facts: model.ModelFacts, args: argparse.Namespace
) -> Settings:
    """How a job is sampled, as the flags say."""
    return choose_settings(
        facts,
        *scales,
        steps=args.num_inference_steps,
        seed=args.seed,
        scheduler=args.scheduler,
        guidance_rescale=args.guidance_rescale,
        guidance_interval=tuple(args.guidance_interval),
        negative_prompt=args.negative_prompt,
    )


def paint(
    jobs: list[Job], facts: model.ModelFacts, failures: dict[str, str], share: Share, args: argparse.Namespace
) -> None:
    """Paint a process's share of the jobs, with a model that is loaded once. What fails is noted; the others go on."""
    device = args.device or share.device
    pipeline = model.load_pipeline(args.model_id, str(device), choose_dtype(device, args.precision))
    if args.compile:
        pipeline.unet.compile()
    for prompt in dict.fromkeys(job.prompt for job in jobs):
        if not prompt.strip():
            print("warning: the instruction is empty: the model paints what it likes", file=sys.stderr)
        if unread := unread_text(pipeline.tokenizer, prompt):
            print(f"warning: the instruction is too long for the model, from {unread[:60]!r} on", file=sys.stderr)
    converter = SpectrogramConverter(facts.params, str(device))
    painter = Painter(pipeline, converter, facts.target, args.batch_size, args.quiet)
    if args.audio is not None:
        for job, following in itertools.zip_longest(jobs, jobs[1:]):
            with own_failure(job.name, failures), writing(job.folder, sum(needed_bytes(job.source, args))):
                paint_song(job, painter, args)
            if following is None or following.source is not job.source:
                job.source.recording.release()
        return
    steps = args.num_candidates * args.num_inference_steps  # of a sample; retries come on top
    with tqdm(total=len(jobs) * steps, unit="step", desc="painting", disable=args.quiet) as progress:
        done = 0
        for _, group in itertools.groupby(jobs, key=lambda job: job.settings):
            alike = list(group)
            for first in range(0, len(alike), args.batch_size):
                batch = alike[first : first + args.batch_size]
                progress.set_postfix_str(f"{done} of {len(jobs)} samples done")
                try:
                    paint_samples(batch, painter, progress, args)
                except Exception:  # whose failure it is shows when each has its turn
                    for job in batch:
                        with own_failure(job.name, failures), writing(job.folder):
                            paint_samples([job], painter, progress, args)
                done += len(batch)
        progress.set_postfix_str(f"{done} of {len(jobs)} samples done")


def paint_song(job: Job, painter: Painter, args: argparse.Namespace) -> None:
    """Paint over a whole song and write its folder, once all is there."""
    rate = painter.converter.params.sample_rate
    if not args.quiet:
        print(f"{job.source.name}: {job.prompt}")
    with results.working_folder(job.folder) as folder, tempfile.TemporaryDirectory(dir=folder) as scratch:
        mono = Path(scratch) / "model-input.wav"
        needed = 4 * math.ceil(job.source.seconds * rate)
        blocks = mixed_blocks(job.source.recording, rate, job.source.downmix)
        samples = audio.write_floats(mono, blocks, rate, needed=needed)
        region = Region(int(args.start * rate), samples if args.end is None else min(int(args.end * rate), samples))
        tried: list[Tried] = []
        with open_view(mono, region, painter) as view:
            for attempts in plan_rounds(job.settings, args.num_candidates, args.retries):
                noises = [attempt.noise_name(job.source.name) for attempt in attempts]
                painted = view.paint(job.prompt, noises, attempts[0].settings)
                for attempt, latents in zip(attempts, painted, strict=True):
                    answer = files.make_folder(Path(scratch) / str(attempt.number))
                    stem = answer / "model-stem.wav"
                    view.write_stem(stem, latents, job.task)
                    tried.append(mix_answer(job, attempt, mono, stem, region, painter, args))
                    stem.unlink()
                    for loser in tried:
                        if loser is not best(tried):
                            shutil.rmtree(Path(scratch) / str(loser.attempt.number), ignore_errors=True)
                if is_settled(tried):
                    break
        for path in (Path(scratch) / str(best(tried).attempt.number)).iterdir():
            path.replace(folder / path.name)
        tracks = [(name, f"{name}.{args.format}", f"{name}.png") for name in ("input", "painted", "stem")]
        save_result(folder, job, job.source.seconds, tried, tracks, painter.converter.params)


def mix_answer(
    job: Job,
    attempt: Attempt,
    mono: Path,
    mono_stem: Path,
    region: Region,
    painter: Painter,
    args: argparse.Namespace,
) -> Tried:
    """Mix a painted stem into the song's own samples, beside the stem's file, with pictures; and measure it."""
    song, folder = job.source, mono_stem.parent
    files = {name: folder / f"{name}.{args.format}" for name in ("input", "painted", "stem")}
    layers = Layers(song.recording, mono_stem, args.start, math.inf if args.end is None else args.end)
    placement = Placement(args.stem_gain_db, args.pan, song.downmix.signs if job.task.takes_from_input else ())
    limited = mix_song(layers, job.task, placement, song.bits, files, song.tags)
    overview = Overview(painter.converter, soundfile.info(os.fsencode(mono)).frames)
    gains = placement.gains(song.channels)
    overview.look(mono, files["stem"], job.task, region.start, region.end, gains, song.downmix.loudness_at)
    for name, picture in overview.pictures().items():
        save_png(picture, folder / f"{name}.png")
    more = {"limited dB": limited.most_db, "limited s": limited.seconds, "samples cut": limited.samples}
    more |= {"input samples clipped": song.clipped}
    if args.format in LOSSLESS:
        more["backing samples changed"] = backing_changes(files, job.task, song.bits)
    return Tried(attempt, job.task, job.prompt, overview.measured(), more)


@dataclass
class Answers:
    """What was painted for a sample of a dataset so far."""

    job: Job
    sounding: Sounding
    unedited: Image.Image  # what the model makes of the input when it changes nothing
    tried: list[Tried] = field(default_factory=list)
    painted: dict[int, tuple[Image.Image, torch.Tensor]] = field(default_factory=dict)  # picture and stem, by attempt

    def take(self, attempt: Attempt, picture: Image.Image, target: str) -> None:
        """Sound and measure an answer."""
        sample = self.job.source
        stem = self.sounding.stem(self.unedited, picture, target)
        outside = {OUTSIDE: sample.outside(self.unedited, picture, target)}
        self.tried.append(Tried(attempt, self.job.task, self.job.prompt, self.sounding.measured(stem), outside))
        self.painted[attempt.number] = picture, stem


def paint_samples(jobs: list[Job], painter: Painter, progress: tqdm, args: argparse.Namespace) -> None:
    """Edit the pictures of a few samples that are sampled alike, and write their folders.

    `progress` counts a denoising step of a sample; steps of retries are added to its total.
    """
    unedited = unedited_images([job.source.original for job in jobs], painter)
    soundings = [Sounding(job.source, painter.converter) for job in jobs]
    everything = [Answers(*each) for each in zip(jobs, soundings, unedited, strict=True)]
    for attempts in plan_rounds(jobs[0].settings, args.num_candidates, args.retries):
        asked = [(answers, attempt) for answers in everything if not is_settled(answers.tried) for attempt in attempts]
        if attempts[0].number >= args.num_candidates:
            progress.total += len(asked) * args.num_inference_steps
        for first in range(0, len(asked), painter.batch_size):
            batch = asked[first : first + painter.batch_size]
            pictures = edit_images(
                painter.pipeline,
                [answers.job.source.original for answers, _ in batch],
                [answers.job.prompt for answers, _ in batch],
                [attempt.noise_name(answers.job.source.sha256) for answers, attempt in batch],
                attempts[0].settings,
                progress,
            )
            for (answers, attempt), picture in zip(batch, pictures, strict=True):
                answers.take(attempt, picture, painter.target)
    for answers in everything:
        save_sample(answers, painter)


def save_sample(answers: Answers, painter: Painter) -> None:
    """Write the best answer's pictures and sound: original, painted, stem and target."""
    job, sounding = answers.job, answers.sounding
    sample, params = job.source, job.source.params
    picture, stem = answers.painted[best(answers.tried).attempt.number]
    true = sounding.stem(sample.original, sample.edited, sample.target)
    signals = {"original": sounding.backing, "painted": sounding.result(stem), "stem": stem}
    signals["target"] = sounding.result(true)
    peak = max(float(signal.abs().max()) for signal in signals.values())
    gain = 1 / max(peak, 1e-9) if peak > 1 or sample.max_value is None else 1.0  # else the level is unknown
    shown = sample.shown(answers.unedited, picture, painter.target)
    with results.working_folder(job.folder) as folder:
        for name, signal in signals.items():
            audio.save_wav(folder / f"{name}.wav", gain * signal.numpy(), params.sample_rate)
            image = image_from_spectrogram(shown[name], params, float(sample.max_value or 1.0))
            save_png(image, folder / f"{name}.png")
        tracks = [(name, f"{name}.wav", f"{name}.png") for name in signals]
        length = sounding.backing.shape[-1] / params.sample_rate
        save_result(folder, job, length, answers.tried, tracks, params, sounding.controls(painter.target))


def save_result(
    folder: Path,
    job: Job,
    length: float,
    tried: list[Tried],
    tracks: list[tuple[str, str, str]],
    params: SpectrogramParams,
    controls: dict[str, dict[str, object]] | None = None,
) -> None:
    """Write a sample's animated comparison and, last, its record."""
    pictures = {name: Image.open(folder / picture) for name, _, picture in tracks}
    figures.save_animation(folder / COMPARISON, {name: pictures[name] for name in pictures if name != "stem"})
    kept = best(tried)
    record = {
        "sample": job.folder.name,
        "title": job.source.title,
        "prompt": job.prompt,
        "task": job.task.name,
        "measured": kept.measured.row(job.task, asked_stem(job.prompt)) | kept.more,
        "controls": controls or {},
        "kept attempt": kept.attempt.number,
        "attempts": [one.record() for one in tried],
        "settings": job.recorded,
        "seconds": length,
        "columns": next(iter(pictures.values())).width,
        "min_frequency": params.min_frequency,
        "max_frequency": params.max_frequency,
        "tracks": [dict(zip(("name", "sound", "picture"), track, strict=True)) for track in tracks],
        "comparison": COMPARISON,
    }
    files.save_json(folder / results.RECORD, record)


def load_results(jobs: list[Job]) -> list[dict]:
    """What the folders of finished jobs say."""
    paths = [job.folder / results.RECORD for job in jobs]
    return [files.load_json(path) for path in paths if path.is_file()]


def write_pages(jobs: list[Job], failures: dict[str, str], args: argparse.Namespace) -> None:
    """Write the page of every folder of samples, and the one over all guidance scales if there are several."""
    if args.base_save_path.is_dir():
        results.save_failures(args.base_save_path, failures)
    for folder in {job.folder.parent for job in jobs}:
        results.write_overview(folder)
    if len(guidance_grid(args)) > 1:
        results.write_search(args.base_save_path)
    results.write_overview(args.base_save_path)


def tell(jobs: list[Job], todo: list[Job], spent: float, args: argparse.Namespace) -> None:
    """Print the results that there are: one row per sample, the table over all, what their columns mean, and where to
    look.
    """
    if args.quiet or not jobs:
        return
    todo = [job for job in jobs if job in todo]
    records = load_results(jobs)
    search = len(guidance_grid(args)) > 1
    shown = [[result_row(job, record, search) for job, record in zip(jobs, records, strict=True)]]
    if len(jobs) > 1:
        shown.append(results.search_summary(records) if search else results.summary(records))
    print("\n\n".join([*map(tables.table, shown), columns.legend(shown)]) + "\n")
    there = f", {len(jobs) - len(todo)} already existed" if len(todo) < len(jobs) else ""
    print(f"painted {len(todo)} in {spent:.1f} s{there}; seed {args.seed}")
    if not piped(args):
        print(f"look and listen: {args.base_save_path / (results.SEARCH_PAGE if search else results.PAGE)}")


def result_row(job: Job, record: dict, search: bool) -> dict[str, object]:
    """A result's row: folder and task, guidance in a search, which attempt was kept if there were several, measures.

    The folder is named without those that it is in: with standard input they are gone afterwards.
    """
    row: dict[str, object] = {"result": job.folder.name, "task": job.task.name}
    if search:
        row |= results.guidance(record)
    if len(record["attempts"]) > 1:
        row |= {"kept attempt": record["kept attempt"], "attempts": len(record["attempts"])}
    return row | record["measured"]


if __name__ == "__main__":
    run_script(main, parse_args())
