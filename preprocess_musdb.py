"""Make InstructPix2Pix pairs from songs in stems: two pictures on one scale and an instruction.

    python preprocess_musdb.py --root_data_dir /data/musdb18/train --output_dir /data/musdb18-pix2pix/train
    python preprocess_musdb.py --download_sample /data/musdb18-7s

Of every clip a backing is drawn, some of the stems that sound in it, and several instructions that ask different things
of it: add a stem that is left out, remove or extract one that is there, keep everything. The output folder reads as
`datasets.load_dataset("imagefolder", data_dir=...)`. A run that was stopped goes on where it was when it is started
again with the same flags.
"""

import argparse
import itertools
import math
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple, dataclass, field
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from riffusion.pairs import instructions, stems
from riffusion.pairs.clips import FEW_STEMS, Clip, cut_clips
from riffusion.pairs.pair import METADATA, TARGETS, Pair, Scale, Source, read_records, write_records
from riffusion.pairs.pair_images import Pictures, draw_pictures
from riffusion.pairs.task_words import read_task
from riffusion.pairs.tasks import TASKS, Edit, Stems, Task, draw_backings, draw_edits, task_named
from riffusion.recordings.ffmpeg import put_ffmpeg_on_path
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams
from riffusion.util import figures, files, names, tables
from riffusion.util.disk_space import writing
from riffusion.util.errors import UserError, own_failure
from riffusion.util.flags import Help, torch_device
from riffusion.util.runtime import keep_freed_memory, only_run, run_script

PITCH_STEPS = (-3, -2, -1, 1, 2, 3)
SONG_FILE = "song.json"  # written last: a song that has it is finished
RUNNING = ".running"  # begins the name of the file that a run holds in its output folder
PREVIEW_PAIRS = 12
MOST_BACKINGS = 31  # that are tried for a clip before it is given up: all that five stems have


@dataclass
class SongResult:
    """What became of one song: how many pairs of each kind, what was not kept and why, and why it failed if it did.

    Files of its folder that were passed over are named with the reason, and so are stems that are sums of others.
    `mended` counts stems that aren't the mean of their channels in the pairs, by what was wrong with that.
    """

    song: stems.Song
    folder: Path
    pairs: Counter[str] = field(default_factory=Counter)
    not_kept: Counter[str] = field(default_factory=Counter)
    passed_over: dict[str, str] = field(default_factory=dict)
    mended: Counter[str] = field(default_factory=Counter)
    failure: str = ""

    @property
    def name(self) -> str:
        """What tells it from others: a song of the same name may be in another subset."""
        return str(Path(self.song.subset, self.song.name))


@dataclass
class SongWork:
    """What the pairs of a song are made with: its labels, the stems asked for, the transforms and all flags."""

    result: SongResult
    labels: dict[str, str]
    wanted: frozenset[str]
    converter: SpectrogramConverter
    args: argparse.Namespace


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument_group("songs").add_argument
    add(
        "--root_data_dir",
        type=Path,
        help="MUSDB18 root with train/ and test/, or one such folder: .stem.mp4 files, or one folder per song with "
        "one audio file of any format per stem (default: none; needed but for --download_sample)",
    )
    add("--output_dir", type=Path, help="where the pairs go (default: none; needed as well)")
    add(
        "--download_sample",
        type=Path,
        metavar="DIR",
        help="only fetch MUSDB18's 7-second excerpts into DIR (default: don't)",
    )
    add = parser.add_argument_group("what is asked for").add_argument
    add("--stems", "--gen_stem", nargs="+", metavar="STEM", help="stems to ask for (default: all that a song has)")
    tasks = [task.name for task in TASKS]
    add("--tasks", nargs="+", choices=tasks, default=tasks, help="what to ask of them (default: all)")
    add("--pairs_per_clip", type=int, default=6, help="maximum number of instructions per clip (default: 6)")
    add("--backings_per_clip", type=int, default=2, help="backings per clip; --pairs_per_clip is split among them")
    add(
        "--subset_prob",
        type=float,
        default=0.5,
        help="probability of a random subset of the audible stems instead of all but one (default: 0.5)",
    )
    add(
        "--target",
        choices=TARGETS,
        default="stem",
        help="edited picture: the painted stem alone (default), or the whole result as in the original",
    )
    add(
        "--prompt_filepath",
        type=Path,
        default=instructions.MUSDB_LABELS,
        help='labels of the songs (TSV with a column track) or JSON lines {"file": ..., "edit_prompt": ...} '
        "(default: our labels of MUSDB18)",
    )
    add(
        "--say_prob",
        type=float,
        default=instructions.SAY,
        help="probability of mentioning each known attribute of a stem (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="seed of backings, edits and sentences (default: 0)")
    add = parser.add_argument_group("clips").add_argument
    add("--fs", type=int, default=44100, help="sample rate in Hz (default: 44100)")
    add("--frame_len_seconds", type=float, default=5.11, help="clip length (default: 5.11)")
    add("--frame_overlap", type=float, default=0.0, help="overlap as a share of a clip (default: 0)")
    add("--pitch_augment", action="store_true", help=f"also shifted by {PITCH_STEPS} semitones")
    add("--max_examples", type=int, help="stop after this many pairs (default: never)")
    add = parser.add_argument_group("which pairs are kept").add_argument
    add(
        "--frame_min_power_prop",
        type=float,
        default=0.4,
        help="minimum mean power of a stem in a clip, as a share of its power in the song (default: 0.4)",
    )
    add("--min_level_db", type=float, default=-20.0, help="minimum level over the rest of the mix (default: -20)")
    add("--max_level_db", type=float, default=15.0, help="maximum level over the rest of the mix (default: 15)")
    add("--min_changed", type=float, default=0.03, help="minimum share of pixels that the stem changes (default: 0.03)")
    add = parser.add_argument_group("the run").add_argument
    add("--device", type=torch_device, default="cpu", help="torch device for the transforms (default: cpu)")
    add("--num_proc", type=int, default=os.cpu_count(), help="songs at a time (default: all cores)")
    add("--num_shards", type=int, default=1, help="machines that share the songs and the output folder (default: 1)")
    add("--shard_index", type=int, default=0, help="which of them this is, from 0 (default: 0)")
    add("--save_wav", action="store_true", help="also write each picture's sound")
    add("--preview", action="store_true", help=f"also draw {PREVIEW_PAIRS} pairs into preview.png")
    add("--silence", action="store_true", help="print nothing but errors")
    args = parser.parse_args(argv)
    if args.download_sample is None and (args.root_data_dir is None or args.output_dir is None):
        parser.error("--root_data_dir and --output_dir are needed")
    args.stems = [names.key(stem) for stem in args.stems] if args.stems else None
    check_args(parser, args)
    return args


def check_args(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with a usage error where a value makes no sense."""
    if not 0 <= args.frame_overlap < 1:
        parser.error(f"--frame_overlap is a share of a clip, 0 <= overlap < 1, not {args.frame_overlap}")
    if not 0.5 <= args.frame_len_seconds <= 60:
        parser.error(f"--frame_len_seconds must be between 0.5 and 60, not {args.frame_len_seconds}")
    if args.fs < 2 * SpectrogramParams.max_frequency:
        parser.error(f"--fs must be at least {2 * SpectrogramParams.max_frequency}, twice the highest pitch shown")
    for name in ("subset_prob", "say_prob", "min_changed"):
        if not 0 <= getattr(args, name) <= 1:
            parser.error(f"--{name} is a share, between 0 and 1, not {getattr(args, name)}")
    if not args.frame_min_power_prop >= 0:
        parser.error(f"--frame_min_power_prop must not be negative, but is {args.frame_min_power_prop}")
    if not args.min_level_db < args.max_level_db:
        parser.error("--min_level_db must be less than --max_level_db")
    for name in ("pairs_per_clip", "backings_per_clip", "num_proc", "num_shards"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if not 0 <= args.shard_index < args.num_shards:
        parser.error("--shard_index counts from 0 and must be less than --num_shards")
    if args.max_examples is not None and (args.max_examples < 1 or args.num_shards > 1):
        parser.error("--max_examples must be at least 1, and doesn't go with --num_shards")


def main(args: argparse.Namespace) -> int:
    if args.download_sample is not None:
        return download_sample(args.download_sample)
    prompts = {names.key(song): labels for song, labels in instructions.read_prompts(args.prompt_filepath).items()}
    songs, passed_over = stems.list_songs(args.root_data_dir)
    require_stems(songs, args)
    files.make_folder(args.output_dir)
    with only_run(args.output_dir / f"{RUNNING}-{args.shard_index}-of-{args.num_shards}"):
        claim_output_dir(args)
        songs = songs[args.shard_index :: args.num_shards]
        results = preprocess_songs(songs, prompts, args)
        for result in results:
            if result.failure:
                print(f"error: {result.failure}", file=sys.stderr)
        if not any(result.pairs for result in results):
            if args.num_shards == 1:
                shutil.rmtree(args.output_dir)
            raise UserError(f"no pair was made from {args.root_data_dir}; nothing was written")
        if args.preview:
            draw_preview(results, args)
        return write_report(results, prompts, passed_over, args)


def download_sample(folder: Path) -> int:
    """Fetch MUSDB18's sampler (144 songs, 7 seconds each) with musdb. Raises UserError if it can't be had."""
    files.make_folder(folder)
    put_ffmpeg_on_path()  # musdb looks for it when it is imported
    import musdb

    try:
        musdb.DB(root=str(folder), download=True)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"can't download MUSDB18's sampler into {folder} ({error})") from error
    print(f"next: python preprocess_musdb.py --root_data_dir {folder} --output_dir {folder}-pix2pix")
    return 0


def require_stems(songs: list[stems.Song], args: argparse.Namespace) -> None:
    """Refuse a stem name that no readable song has, before any work."""
    known = set()
    for song in songs:
        with own_failure(song.name, {}):  # reported when its turn comes
            known |= set(stems.stem_sources(song))
    for stem in args.stems or ():
        if known and stem not in known:
            raise UserError(f"no song has a stem named {stem!r}; there are {', '.join(sorted(known))}")


def claim_output_dir(args: argparse.Namespace) -> None:
    """Write the flags into the output folder, or check that it was made with the same ones."""
    # where and how the work is done and shown, not what is made
    here = {"output_dir", "download_sample", "device", "num_proc", "num_shards", "shard_index", "preview", "silence"}
    flags = {name: str(value) for name, value in vars(args).items() if name not in here}
    flags["prompt_filepath"] = f"{args.prompt_filepath} {zlib.crc32(args.prompt_filepath.read_bytes()):08x}"
    path = args.output_dir / "preprocess.json"
    if path.is_file():
        before = files.load_json(path)
        changed = [name for name in flags if flags[name] != before.get(name)]
        if changed:
            raise UserError(f"{args.output_dir} was made with another --{changed[0]}; choose another folder")
    elif not all(one.name.startswith((RUNNING, path.name)) for one in args.output_dir.iterdir()):
        raise UserError(f"{args.output_dir} holds files of something else; choose an empty folder")
    else:
        files.save_json(path, flags)


def preprocess_songs(songs: list[stems.Song], prompts: dict, args: argparse.Namespace) -> list[SongResult]:
    """Each song's result, in order, with progress on the way."""
    results = []
    started, pairs = time.monotonic(), 0
    with tqdm(total=len(songs), unit="song", disable=args.silence) as progress:
        for result in iterate_songs(songs, prompts, args):
            results.append(result)
            pairs += result.pairs.total()
            progress.set_postfix_str(f"{pairs} pairs, {pairs / (time.monotonic() - started):.1f} a second")
            progress.update()
    return results


def iterate_songs(songs: list[stems.Song], prompts: dict, args: argparse.Namespace) -> Iterator[SongResult]:
    """Each song's result, in order. A limit of examples needs the count so far, so it goes song by song."""
    if args.max_examples is not None or args.num_proc == 1:
        remaining = args.max_examples
        for song in songs:
            if remaining == 0:
                return
            result = preprocess_song(song, labels_of(song, prompts), args, remaining)
            remaining = None if remaining is None else remaining - result.pairs.total()
            yield result
        return
    done = 0
    while done < len(songs):
        for result in pooled_songs(songs[done:], prompts, args, args.num_proc):
            done += 1
            yield result
        if done < len(songs):  # a process was killed, perhaps not this song's: what is alone is to blame
            alone = list(pooled_songs(songs[done : done + 1], prompts, args, 1))
            yield from alone or [killed(songs[done], args)]
            done += 1


def pooled_songs(
    songs: list[stems.Song], prompts: dict, args: argparse.Namespace, processes: int
) -> Iterator[SongResult]:
    """The songs' results, in order, from a pool of processes; up to the first that is lost if one is killed."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), start_worker) as pool:
        futures = [pool.submit(preprocess_song, song, labels_of(song, prompts), args, None) for song in songs]
        for future in futures:
            try:
                result = future.result()
            except BrokenProcessPool:
                return
            yield result


def killed(song: stems.Song, args: argparse.Namespace) -> SongResult:
    """The result of a song whose process is gone."""
    failure = f"{song.path}: its process was killed; is there too little memory?"
    return SongResult(song, song_folder(song, args), failure=failure)


def labels_of(song: stems.Song, prompts: dict) -> dict:
    """The labels of a song, whatever the case of its name; none if it has none."""
    return prompts.get(names.key(song.name), {})


def start_worker() -> None:
    """One thread a process, as the songs already fill the cores; and no worker outlives a parent that was killed."""
    torch.set_num_threads(1)
    keep_freed_memory()
    threading.Thread(target=exit_with_parent, daemon=True).start()


def exit_with_parent() -> None:
    """Leave the process as soon as its parent is gone: a second run may already be making the same song."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def folder_name(song: str) -> str:
    """A song's folder: its words run together, because `datasets` takes a word such as "test" for a split's name."""
    words = re.sub(r"[^A-Za-z0-9]+", " ", song).split()
    return "".join(word.capitalize() for word in words) + f"-{zlib.crc32(song.encode()):08x}"


def song_folder(song: stems.Song, args: argparse.Namespace) -> Path:
    """Where a song's pairs go."""
    return args.output_dir / song.subset / folder_name(song.name)


def preprocess_song(song: stems.Song, labels: dict, args: argparse.Namespace, limit: int | None) -> SongResult:
    """All pairs of a song. What goes wrong is this song's failure: it is told in the result, and nothing is raised."""
    result = SongResult(song, song_folder(song, args))
    failures: dict[str, str] = {}
    with own_failure(str(song.path), failures):
        finished = result.folder / SONG_FILE
        if finished.is_file():
            known = files.load_json(finished)
            result.pairs, result.not_kept = Counter(known["pairs"]), Counter(known["not kept"])
            result.mended, result.passed_over = Counter(known.get("stems mended")), known.get("passed over", {})
        else:
            make_song(result, labels, args, limit)
    if failures:
        shutil.rmtree(result.folder, ignore_errors=True)
        result.failure = failures[str(song.path)]
    return result


def make_song(result: SongResult, labels: dict, args: argparse.Namespace, limit: int | None) -> None:
    """Make all pairs of a song and, last, the file that says so."""
    song = result.song
    shutil.rmtree(result.folder, ignore_errors=True)  # what a run that was killed left of it
    files.make_folder(result.folder)
    if song.path.is_dir():
        result.passed_over = stems.list_stems(song)[1]
    with writing(result.folder), tempfile.TemporaryDirectory(dir=result.folder) as folder:
        mixed_down, sums = stems.without_mixtures(stems.mix_down(song, args.fs, Path(folder)))
        result.passed_over |= dict.fromkeys(sums, "the sum of other stems")
        for downmix in mixed_down.downmixes.values():
            result.mended["channels that cancel"] += downmix.cancels
            result.mended["an offset or a rumble"] += downmix.lifted
        work = SongWork(result, labels, wanted_stems(mixed_down, song, args), song_converter(args), args)
        pairs = list(itertools.islice(make_pairs(mixed_down, work), limit))
    result.pairs = Counter(str(pair.edit) for pair in pairs)
    write_records(result.folder / METADATA, pairs)
    counts = {"pairs": result.pairs, "not kept": result.not_kept, "stems mended": result.mended}
    told = {name: dict(counted) for name, counted in counts.items()} | {"passed over": result.passed_over}
    files.save_json(result.folder / SONG_FILE, told)


def song_converter(args: argparse.Namespace) -> SpectrogramConverter:
    """Riffusion's transforms for these flags: the clip's length becomes a number of frames."""
    riffusion = SpectrogramParams(sample_rate=args.fs)
    frames = round(args.frame_len_seconds * 1000 / riffusion.step_size_ms) + 1
    return SpectrogramConverter(SpectrogramParams(sample_rate=args.fs, num_frames=frames), args.device)


def wanted_stems(mixed_down: stems.MonoStems, song: stems.Song, args: argparse.Namespace) -> frozenset[str]:
    """The stems of a song that are asked for. Raises UserError if nothing can be asked of them."""
    names = frozenset(args.stems or mixed_down.files) & set(mixed_down.files)
    if not names:
        raise UserError(f"{song.path}: has none of the stems {', '.join(args.stems)}")
    if len(mixed_down.files) == 1:
        raise UserError(f"{song.path}: {min(names)!r} is the only stem: nothing is left for a backing")
    if not any(mixed_down.powers[name] for name in names):
        raise UserError(f"{song.path}: {', '.join(sorted(names))} silent throughout")
    return names


def make_pairs(song: stems.MonoStems, work: SongWork) -> Iterator[Pair]:
    """Cut the clips of one song at each pitch and draw their pairs. Raises UserError if the song is too short."""
    params = work.converter.params
    if song.samples < params.clip_samples:
        seconds = song.samples / song.sample_rate
        raise UserError(
            f"{work.result.song.path}: {seconds:.3f} s is shorter than a clip of {params.clip_seconds:.3f} s"
        )
    for semitones in (0, *(PITCH_STEPS if work.args.pitch_augment else ())):
        for clip in cut_clips(song, params, work.args.frame_overlap, semitones):
            yield from make_clip_pairs(clip, work)


def make_clip_pairs(clip: Clip, work: SongWork) -> Iterator[Pair]:
    """Draw what one clip is asked, and its pictures on one scale a backing."""
    rng = random.Random(f"{work.args.seed} {work.result.song.name} {clip.number} {clip.semitones}")
    plan = plan_clip(clip, work, rng)
    for number, pictures in enumerate(draw_pictures(clip, plan, work.args.target, work.converter)):
        prefix = work.result.folder / f"clip{clip.number:03d}_pitch{clip.semitones:+d}_{number}"
        for edit in visible_edits(pictures, work):
            yield make_pair(pictures, edit, prefix, work, rng)


def plan_clip(clip: Clip, work: SongWork, rng: random.Random) -> list[tuple[Stems, list[Edit]]]:
    """Backings of a clip and the edits to ask of each, chosen by their levels."""
    args, not_kept = work.args, work.result.not_kept
    sounding = clip.sounding()
    paintable = work.wanted & sounding & clip.loud(args.frame_min_power_prop)
    not_kept["stems too quiet in a clip"] += len(work.wanted - paintable)
    plan: list[tuple[Stems, list[Edit]]] = []
    left, most = args.pairs_per_clip, math.ceil(args.pairs_per_clip / args.backings_per_clip)
    backings = draw_backings(sounding, paintable, asked_tasks(args), args.subset_prob, rng)
    for backing, offers in itertools.islice(backings, MOST_BACKINGS):
        levels = {edit: clip.level_db(edit, backing) for edit in draw_edits(offers, rng)}
        heard = [edit for edit in levels if not edit.stem or args.min_level_db <= levels[edit] <= args.max_level_db]
        not_kept["edits with a level out of range"] += len(levels) - len(heard)
        chosen = of_few_stems(heard, plan)[: min(left, most)]
        if worth_a_backing(chosen, args):
            plan.append((backing, chosen))
            left -= len(chosen)
        if left == 0:
            break
    return plan


def of_few_stems(edits: list[Edit], plan: list[tuple[Stems, list[Edit]]]) -> list[Edit]:
    """The edits, in their order, that let a clip have no more than `FEW_STEMS` painted: each is a picture to draw."""
    painted = {edit.stem for _, planned in plan for edit in planned if edit.stem}
    few = []
    for edit in edits:
        if not edit.stem or edit.stem in painted or len(painted) < FEW_STEMS:
            few.append(edit)
            painted |= edit.painted()
    return few


def visible_edits(pictures: Pictures, work: SongWork) -> list[Edit]:
    """The edits that change enough of the picture; "keep", which may stand beside them, changes nothing."""
    edits = list(pictures.answers)
    visible = [edit for edit in edits if not edit.stem or pictures.changed_share(edit) >= work.args.min_changed]
    work.result.not_kept["edits that change too little of the picture"] += len(edits) - len(visible)
    return visible if worth_a_backing(visible, work.args) else []


def worth_a_backing(edits: list[Edit], args: argparse.Namespace) -> bool:
    """Whether an edit among them paints, or no task is about a stem."""
    return any(edit.stem for edit in edits) or (bool(edits) and not any(task.has_stem for task in asked_tasks(args)))


def asked_tasks(args: argparse.Namespace) -> tuple[Task, ...]:
    """The tasks that --tasks names."""
    return tuple(map(task_named, args.tasks))


def make_pair(pictures: Pictures, edit: Edit, prefix: Path, work: SongWork, rng: random.Random) -> Pair:
    """Write one pair's pictures and its instruction."""
    clip, backing = pictures.clip, pictures.backing
    features = clip.features(edit, backing, pictures.mels[edit.painted()])
    text = instructions.write_instruction(edit, backing, labels_for(edit, work), features, rng, work.args.say_prob)
    start_seconds = round(clip.start_seconds, 6)
    return Pair(
        pictures.save(edit, prefix, work.args.save_wav),
        text,
        Source(work.result.song.name, clip.number, start_seconds, clip.semitones, ", ".join(sorted(backing))),
        edit,
        Scale(work.args.target, pictures.gain, pictures.max_value, pictures.changed_share(edit)),
        features,
    )


def labels_for(edit: Edit, work: SongWork) -> dict[str, str]:
    """The song's labels; a sentence of its own only for the edit that it asks for."""
    sentence = work.labels.get("edit_prompt")
    if sentence is None:
        return work.labels
    about_stem = work.args.stems == [edit.stem] or instructions.names_stem(sentence, edit.stem)
    return work.labels if about_stem and read_task(sentence) == edit.task else {}


def draw_preview(results: list[SongResult], args: argparse.Namespace) -> None:
    """Draw a dozen pairs of different songs, where there are so many, into preview.png."""
    rng = random.Random(args.seed)
    songs = [result.folder for result in results if result.pairs]
    pairs, captions = [], []
    for index in range(PREVIEW_PAIRS):
        folder = songs[index * len(songs) // PREVIEW_PAIRS]
        pair = rng.choice(read_records(folder / METADATA))
        before, after = (Image.open(folder / name) for name in astuple(pair.images))
        pairs.append((before, after))
        captions.append(f'"{pair.text.edit_prompt}" ({pair.edit}; the input has {pair.source.backing_stems})')
    figures.contact_sheet(pairs, captions).save(args.output_dir / "preview.png")


def write_report(
    results: list[SongResult], prompts: dict, passed_over: dict[str, str], args: argparse.Namespace
) -> int:
    """Write report.json and print the closing tables. Exit code 2 if a song failed."""
    pairs = sum((result.pairs for result in results), start=Counter())
    not_kept = sum((result.not_kept for result in results), start=Counter())
    mended = sum((result.mended for result in results), start=Counter())  # without what was never found
    failed = {result.name: result.failure for result in results if result.failure}
    unlabelled = [result.song.name for result in results if names.key(result.song.name) not in prompts]
    passed_over |= {f"{one.name}/{file}": why for one in results for file, why in one.passed_over.items()}
    summary = {
        "songs": len(results),
        "pairs": pairs.total(),
        "pairs by edit": dict(sorted(pairs.items())),
        "not kept": dict(sorted(not_kept.items())),
        "stems mended": dict(sorted(mended.items())),
        "songs without labels": unlabelled,
        "songs failed": failed,
        "passed over": passed_over,
    }
    shard = f"-{args.shard_index}-of-{args.num_shards}" if args.num_shards > 1 else ""
    path = args.output_dir / f"report{shard}.json"
    files.save_json(path, summary)
    if not args.silence:
        print(tables.table([{"edit": edit, "pairs": number} for edit, number in sorted(pairs.items())]))
        print(tables.table([{"not kept": reason, "number": number} for reason, number in sorted(not_kept.items())]))
        for what, number in sorted(mended.items()):
            print(f"{number} stems with {what}: mended in the pairs")
        print(f"{args.output_dir}: {pairs.total()} pairs of {len(results) - len(failed)} songs; see {path.name}")
        print(f"{len(failed)} songs failed, {len(unlabelled)} have no labels, {len(passed_over)} files are passed over")
    return 2 if failed else 0


if __name__ == "__main__":
    run_script(main, parse_args())
