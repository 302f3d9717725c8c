"""Make InstructPix2Pix pairs from songs in stems: two images on one scale and an instruction.

    python preprocess_musdb.py --root_data_dir /data/musdb18/train --output_dir /data/musdb18-pix2pix/train
    python preprocess_musdb.py --download_sample /data/musdb18-7s

For each clip a few backings are sampled (some of its audible stems) and several edits of each: add a stem that is left
out, remove or extract one that is there, keep everything. The output folder loads as
`datasets.load_dataset("imagefolder", data_dir=...)`. An interrupted run resumes when it is started again with the same
flags.
"""

import argparse
import os
import shutil
import sys
import time
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from riffusion.pairs.instructions import MUSDB_LABELS, SAY, SongLabels, read_prompts
from riffusion.pairs.options import PITCH_STEPS, RECIPES, WORKER_MODULES, PairOptions
from riffusion.pairs.pair import TARGETS
from riffusion.pairs.tasks import TASKS, task_named
from riffusion.util import files, names
from riffusion.util.errors import UserError, own_failure
from riffusion.util.flags import Help, at_least, probability, torch_device, within
from riffusion.util.runtime import only_run, run_script, telling_what_is_kept, worker_context

if TYPE_CHECKING:
    from riffusion.pairs.song_job import SongJob, SongResult
    from riffusion.pairs.stems import Song

RUNNING = ".running"  # begins the name of the file that a run holds in its output folder
PREVIEW_PAIRS = 12


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument_group("songs").add_argument
    add(
        "--root_data_dir",
        type=Path,
        help="MUSDB18 root with train/ and test/, or one such folder: .stem.mp4 files, or one folder per song with "
        "one audio file of any format per stem (default: none; required unless --download_sample is given)",
    )
    add(
        "--output_dir", type=Path, help="where the pairs go (default: none; required unless --download_sample is given)"
    )
    add(
        "--download_sample",
        type=Path,
        metavar="DIR",
        help="only fetch MUSDB18's 7-second excerpts into DIR (default: don't)",
    )
    add = parser.add_argument_group("edits").add_argument
    add(
        "--recipe",
        choices=RECIPES,
        help='"original" makes pairs as the original project did: --target mix --stems vocals --tasks add '
        "--pairs_per_clip 1 --subset_prob 0 --sentence_per_song, unless a flag says otherwise (default: none)",
    )
    add(
        "--stems",
        "--gen_stem",
        nargs="+",
        metavar="STEM",
        help="stems to add, remove or extract (default: all that a song has)",
    )
    tasks = [task.name for task in TASKS]
    add("--tasks", nargs="+", choices=tasks, default=tasks, help="edits to make (default: all)")
    add("--pairs_per_clip", type=at_least(1), default=6, help="maximum number of instructions per clip (default: 6)")
    add(
        "--backings_per_clip",
        type=at_least(1),
        default=2,
        help="backings per clip; --pairs_per_clip is split among them",
    )
    add(
        "--subset_prob",
        type=probability,
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
        default=MUSDB_LABELS,
        help='labels of the songs (TSV with a column track) or JSON lines {"file": ..., "edit_prompt": ...} '
        "(default: our labels of MUSDB18)",
    )
    add(
        "--say_prob",
        type=probability,
        default=SAY,
        help="probability of mentioning each known attribute of a stem (default: %(default)s)",
    )
    add("--sentence_per_song", action="store_true", help="word an edit alike in all clips of a song")
    add("--seed", type=int, default=0, help="seed of backings, edits and sentences (default: 0)")
    add = parser.add_argument_group("clips").add_argument
    add("--fs", type=int, default=44100, help="sample rate in Hz (default: 44100)")
    add("--frame_len_seconds", type=within(0.5, 60), default=5.11, help="clip length (default: 5.11)")
    add("--frame_overlap", type=probability, default=0.0, help="overlap as a share of a clip (default: 0)")
    add("--pitch_augment", action="store_true", help=f"also make each clip shifted by {PITCH_STEPS} semitones")
    first = "stop after this many pairs: the first songs', so that few are perhaps all of one song (default: never)"
    add("--max_examples", type=at_least(1), help=first)
    add = parser.add_argument_group("which pairs are kept").add_argument
    add(
        "--frame_min_power_prop",
        type=within(0),
        default=0.4,
        help="minimum mean power of a stem in a clip, as a share of its power in the song (default: 0.4)",
    )
    add("--min_level_db", type=float, default=-20.0, help="minimum level over the rest of the mix (default: -20)")
    add("--max_level_db", type=float, default=15.0, help="maximum level over the rest of the mix (default: 15)")
    add(
        "--min_changed",
        type=probability,
        default=0.03,
        help="minimum share of pixels that the stem changes (default: 0.03)",
    )
    add = parser.add_argument_group("the run").add_argument
    add("--device", type=torch_device, default="cpu", help="torch device for the transforms (default: cpu)")
    threads = "processes, a song each, or several threads a song (default: all cores)"
    add("--num_proc", type=at_least(1), default=os.cpu_count(), help=threads)
    machines = "machines that share the songs and the output folder (default: 1)"
    add("--num_shards", type=at_least(1), default=1, help=machines)
    add("--shard_index", type=at_least(0), default=0, help="which of them this is, from 0 (default: 0)")
    add("--save_wav", action="store_true", help="also write the audio of each image")
    add("--preview", action="store_true", help=f"also draw {PREVIEW_PAIRS} pairs into preview.png")
    add("--silence", action="store_true", help="print nothing but errors")
    args = parser.parse_args(argv)
    if args.recipe is not None:
        parser.set_defaults(**RECIPES[args.recipe])
        args = parser.parse_args(argv)
    if args.download_sample is None and (args.root_data_dir is None or args.output_dir is None):
        parser.error("--root_data_dir and --output_dir are needed")
    args.stems = [names.key(stem) for stem in args.stems] if args.stems else None
    check_args(parser, args)
    return args


def check_args(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with a usage error where values make no sense together, or one does as a number alone."""
    from riffusion.spectrogram_params import SpectrogramParams

    if args.frame_overlap == 1:
        parser.error("--frame_overlap must be less than 1, a whole clip")
    if args.fs < 2 * SpectrogramParams.max_frequency:
        parser.error(f"--fs must be at least {2 * SpectrogramParams.max_frequency}, twice the highest pitch shown")
    if not args.min_level_db < args.max_level_db:
        parser.error("--min_level_db must be less than --max_level_db")
    if args.shard_index >= args.num_shards:
        parser.error("--shard_index counts from 0 and must be less than --num_shards")
    if args.max_examples is not None and args.num_shards > 1:
        parser.error("--max_examples doesn't go with --num_shards")


def main(args: argparse.Namespace) -> int:
    """Make pairs; returns the exit code."""
    if args.download_sample is not None:
        return download_sample(args.download_sample)
    if args.num_proc > 1 and args.max_examples is None:
        worker_context(WORKER_MODULES)  # which import while the songs are looked for
    from riffusion.pairs import song_job, stems

    prompts = {names.key(song): labels for song, labels in read_prompts(args.prompt_filepath).items()}
    songs, skipped = stems.list_songs(args.root_data_dir)
    options = pair_options(args)
    require_stems(songs, options.stems)
    files.make_folder(args.output_dir)
    with only_run(args.output_dir / f"{RUNNING}-{args.shard_index}-of-{args.num_shards}"):
        claim_output_dir(args)
        jobs = [
            song_job.SongJob(song, labels_of(song, prompts), song_job.song_folder(song, args.output_dir), options)
            for song in songs[args.shard_index :: args.num_shards]
        ]
        results = run_with_progress(jobs, args)
        tell_failures(results, args)
        if args.preview:
            from riffusion.pairs import preview

            folders = [result.job.folder for result in results if result.pairs]
            preview.draw_preview(folders, PREVIEW_PAIRS, args.seed).save(args.output_dir / "preview.png")
        return write_report(results, prompts, skipped, args)


def pair_options(args: argparse.Namespace) -> PairOptions:
    """How the pairs are made, as the flags say it."""
    return PairOptions(
        stems=tuple(args.stems or ()),
        tasks=tuple(map(task_named, args.tasks)),
        pairs_per_clip=args.pairs_per_clip,
        backings_per_clip=args.backings_per_clip,
        subset_prob=args.subset_prob,
        target=args.target,
        say_prob=args.say_prob,
        sentence_per_song=args.sentence_per_song,
        seed=args.seed,
        sample_rate=args.fs,
        clip_seconds=args.frame_len_seconds,
        overlap=args.frame_overlap,
        pitch_steps=PITCH_STEPS if args.pitch_augment else (),
        min_power_prop=args.frame_min_power_prop,
        min_level_db=args.min_level_db,
        max_level_db=args.max_level_db,
        min_changed=args.min_changed,
        device=str(args.device),
        save_wav=args.save_wav,
    )


def download_sample(folder: Path) -> int:
    """Fetch MUSDB18's sampler (144 songs, 7 seconds each) with musdb. Raises UserError if it can't be had."""
    files.make_folder(folder)
    from riffusion.recordings.ffmpeg import put_ffmpeg_on_path

    put_ffmpeg_on_path()  # musdb looks for it when it is imported
    import musdb

    try:
        musdb.DB(root=str(folder), download=True)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"can't download MUSDB18's sampler into {folder} ({error})") from error
    print(f"next: python preprocess_musdb.py --root_data_dir {folder} --output_dir {folder}-pix2pix")
    return 0


def require_stems(songs: "list[Song]", wanted: tuple[str, ...]) -> None:
    """Refuse a stem name that no readable song has, before any work."""
    from riffusion.pairs.stems import stem_sources

    known: set[str] = set()
    for song in songs:
        with own_failure(song.name, {}):  # reported when its turn comes
            known |= set(stem_sources(song))
    for stem in wanted:
        if known and stem not in known:
            raise UserError(f"no song has a stem named {stem!r}; there are {', '.join(sorted(known))}")


def labels_of(song: "Song", prompts: dict[str, SongLabels]) -> SongLabels:
    """The labels of a song, whatever the case of its name; none if it has none."""
    return prompts.get(names.key(song.name), SongLabels())


def claim_output_dir(args: argparse.Namespace) -> None:
    """Write the flags into the output folder, or check that it was made with the same ones."""
    # where and how the work is done and shown, not what is made; a recipe is the flags that it stands for
    here = {
        "output_dir",
        "recipe",
        "download_sample",
        "device",
        "num_proc",
        "num_shards",
        "shard_index",
        "preview",
        "silence",
    }
    flags = {name: str(value) for name, value in vars(args).items() if name not in here}
    flags["prompt_filepath"] = f"{args.prompt_filepath} {zlib.crc32(args.prompt_filepath.read_bytes()):08x}"
    if not args.sentence_per_song:
        del flags["sentence_per_song"]  # older folders don't know it
    path = args.output_dir / "preprocess.json"
    if path.is_file():
        before = files.load_json(path)
        changed = [name for name in flags if flags[name] != before.get(name)]
        if changed:
            raise UserError(f"{args.output_dir} was made with another --{changed[0]}; choose another folder")
    elif not all(one.name.startswith((RUNNING, path.name)) for one in args.output_dir.iterdir()):
        raise UserError(f"{args.output_dir} contains other files; choose an empty folder")
    else:
        files.save_json(path, flags)


def run_with_progress(jobs: "list[SongJob]", args: argparse.Namespace) -> "list[SongResult]":
    """Each song's result, in order, with progress on the way."""
    from tqdm import tqdm

    from riffusion.pairs.song_job import run_jobs
    from riffusion.util.tables import counted

    results: list[SongResult] = []
    started, pairs, songs = time.monotonic(), 0, counted(len(jobs), "song")
    told = telling_what_is_kept(lambda: f"{len(results)} of {songs} done; the same command goes on")
    with told, tqdm(total=len(jobs), unit="song", disable=args.silence) as progress:
        for result in run_jobs(jobs, args.num_proc, args.max_examples):
            results.append(result)
            pairs += result.pairs.total()
            progress.set_postfix_str(f"{pairs} pairs, {pairs / (time.monotonic() - started):.1f} a second")
            progress.update()
    return results


def tell_failures(results: "list[SongResult]", args: argparse.Namespace) -> None:
    """Print why songs failed. Raises UserError, and leaves nothing behind, if no pair was made at all."""
    for result in results:
        if result.failure:
            print(f"error: {result.failure}", file=sys.stderr)
    if not any(result.pairs for result in results):
        if args.num_shards == 1:
            shutil.rmtree(args.output_dir)
        raise UserError(f"no pair was made from {args.root_data_dir}; nothing was written")


def write_report(
    results: "list[SongResult]", prompts: dict[str, SongLabels], skipped: dict[str, str], args: argparse.Namespace
) -> int:
    """Write report.json and print the closing tables. Exit code 2 if a song failed."""
    from riffusion.pairs.song_job import summarise

    summary = summarise(results, prompts, skipped)
    shard = f"-{args.shard_index}-of-{args.num_shards}" if args.num_shards > 1 else ""
    path = args.output_dir / f"report{shard}.json"
    files.save_json(path, summary)
    if not args.silence:
        print_report(summary, path)
    return 2 if summary["songs failed"] else 0


def print_report(summary: dict[str, Any], path: Path) -> None:
    """Print a run's closing tables; `path` is its report's."""
    from riffusion.util.tables import counted, table

    print(table([{"edit": edit, "pairs": number} for edit, number in summary["pairs by edit"].items()]))
    print(table([{"not kept": reason, "number": number} for reason, number in summary["not kept"].items()]))
    for what, number in summary["stems mended"].items():
        print(f"{counted(number, 'stem')} with {what}: repaired in the pairs")
    lists = ("songs failed", "songs without labels", "passed over")
    failed, unlabelled, skipped = (len(summary[name]) for name in lists)
    made = f"{counted(summary['pairs'], 'pair')} of {counted(summary['songs'] - failed, 'song')}"
    print(f"{path.parent}: {made}; see {path.name}")
    print(f"{counted(failed, 'song')} failed, {unlabelled} without labels, {counted(skipped, 'file')} skipped")


if __name__ == "__main__":
    run_script(main, parse_args())
