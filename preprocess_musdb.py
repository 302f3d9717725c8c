"""Make InstructPix2Pix pairs from songs in stems: two pictures on one scale and an instruction.

    python preprocess_musdb.py --root_data_dir /data/musdb18/train --output_dir /data/musdb18-pix2pix/train

The output folder reads as `datasets.load_dataset("imagefolder", data_dir=...)`. A run that was stopped goes on where
it was when it is started again with the same flags.
"""

import argparse
import multiprocessing
import os
import random
import re
import shutil
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from riffusion import instructions, report, stems
from riffusion.audio import save_wav
from riffusion.dataset import METADATA, TARGETS, Pair, save_png, write_records
from riffusion.errors import UserError
from riffusion.image import image_from_spectrogram, shared_max_value
from riffusion.runtime import keep_freed_memory, run_script, torch_device
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams

PITCH_STEPS = (-3, -2, -1, 1, 2, 3)
SONG_FILE = "song.json"  # written last: a song that has it is finished

Labels = str | dict[str, str] | None  # a song's one instruction, its labels, or nothing known


class Parts(NamedTuple):
    """A song as the pairs need it: mono float32 (1, samples) each, and the names of what the backing is made of."""

    backing: np.ndarray
    painted: np.ndarray
    backing_stems: str


@dataclass
class SongResult:
    """What became of one song: its pairs, how many clips were too quiet, and why it failed if it did."""

    song: stems.Song
    folder: Path
    pairs: list[Pair] = field(default_factory=list)
    too_quiet: int = 0
    failure: str = ""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root_data_dir",
        type=Path,
        required=True,
        help="MUSDB18 root with train/ and test/, or one such folder: .stem.mp4 files, or a folder a song with "
        "wav, flac, ogg or mp3 stems",
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="where the pairs go")
    parser.add_argument("--gen_stem", default="vocals", help="stem to paint (default: vocals)")
    parser.add_argument(
        "--target",
        choices=TARGETS,
        default="stem",
        help="edited picture: the stem alone (default), or backing + stem as in the original",
    )
    parser.add_argument(
        "--prompt_filepath",
        type=Path,
        default=instructions.MUSDB_LABELS,
        help='labels of the songs (TSV with a column track) or JSON lines {"file": ..., "edit_prompt": ...} '
        "(default: our labels of MUSDB18)",
    )
    parser.add_argument("--fs", type=int, default=44100, help="sample rate in Hz (default: 44100)")
    parser.add_argument("--frame_len_seconds", type=float, default=5.11, help="clip length (default: 5.11)")
    parser.add_argument("--frame_overlap", type=float, default=0.0, help="overlap as a share of a clip (default: 0)")
    parser.add_argument(
        "--frame_min_power_prop",
        type=float,
        default=0.4,
        help="least mean power of a clip, as a share of its whole stem's; 0 keeps every clip (default: 0.4)",
    )
    parser.add_argument("--pitch_augment", action="store_true", help=f"also shifted by {PITCH_STEPS} semitones")
    parser.add_argument("--max_examples", type=int, help="stop after this many pairs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the instructions (default: 0)")
    parser.add_argument(
        "--device", type=torch_device, default="cpu", help="torch device for the transforms (default: cpu)"
    )
    parser.add_argument("--num_proc", type=int, default=os.cpu_count(), help="songs at a time (default: all cores)")
    parser.add_argument("--save_wav", action="store_true", help="also write each pair as wav files")
    parser.add_argument("--silence", action="store_true", help="print nothing but errors")
    args = parser.parse_args(argv)
    if not 0 <= args.frame_overlap < 1:
        parser.error(f"--frame_overlap is a share of a clip, 0 <= overlap < 1, not {args.frame_overlap}")
    if not 0.5 <= args.frame_len_seconds <= 60:
        parser.error(f"--frame_len_seconds must be between 0.5 and 60, not {args.frame_len_seconds}")
    if args.fs < 2 * SpectrogramParams.max_frequency:
        parser.error(f"--fs must be at least {2 * SpectrogramParams.max_frequency}, twice the highest pitch shown")
    if not args.frame_min_power_prop >= 0:
        parser.error(f"--frame_min_power_prop must not be negative, but is {args.frame_min_power_prop}")
    if args.num_proc < 1 or (args.max_examples is not None and args.max_examples < 1):
        parser.error("--num_proc and --max_examples must be at least 1")
    return args


def main(args: argparse.Namespace) -> int:
    prompts = instructions.read_prompts(args.prompt_filepath)
    songs = stems.find_songs(args.root_data_dir)
    require_stem(songs, args)
    claim_output_dir(args)
    results: list[SongResult] = []
    with tqdm(total=len(songs), unit="song", disable=args.silence) as progress:
        for result in preprocess_songs(songs, prompts, args):
            results.append(result)
            progress.update()
            progress.set_postfix(pairs=sum(len(done.pairs) for done in results))
    for result in results:
        if result.failure:
            print(f"error: {result.failure}", file=sys.stderr)
    if not any(result.pairs for result in results):
        shutil.rmtree(args.output_dir)
        raise UserError(f"no pair was made from {args.root_data_dir}; nothing was written")
    write_metadata(results, args)
    return write_report(results, prompts, args)


def spectrogram_params(args: argparse.Namespace) -> SpectrogramParams:
    """Riffusion's params for these flags: the clip's length becomes a number of frames."""
    riffusion = SpectrogramParams(sample_rate=args.fs)
    frames = round(args.frame_len_seconds * 1000 / riffusion.step_size_ms) + 1
    return SpectrogramParams(sample_rate=args.fs, num_frames=frames)


def require_stem(songs: list[stems.Song], args: argparse.Namespace) -> None:
    """Refuse a stem name that no readable song has, before any work."""
    names = set()
    for song in songs:
        try:
            names |= stems.stem_names(song)
        except UserError:
            continue  # this song's own failure, reported when its turn comes
    if names and args.gen_stem not in names:
        raise UserError(f"no song has a stem named {args.gen_stem!r}; there are {', '.join(sorted(names))}")


def claim_output_dir(args: argparse.Namespace) -> None:
    """Write the flags into the output folder, or check that it was made with the same ones."""
    here = {"output_dir", "num_proc", "device", "silence"}  # where and how the work is done, not what is made
    flags = {name: str(value) for name, value in vars(args).items() if name not in here}
    flags["prompt_filepath"] = f"{args.prompt_filepath} {zlib.crc32(args.prompt_filepath.read_bytes()):08x}"
    path = args.output_dir / "preprocess.json"
    if path.is_file():
        before = report.load_json(path)
        changed = [name for name in flags if flags[name] != before.get(name)]
        if changed:
            raise UserError(f"{args.output_dir} was made with another --{changed[0]}; choose another folder")
    elif args.output_dir.is_dir() and any(args.output_dir.iterdir()):
        raise UserError(f"{args.output_dir} holds files of something else; choose an empty folder")
    report.make_folder(args.output_dir)
    report.save_json(path, flags)


def preprocess_songs(songs: list[stems.Song], prompts: dict, args: argparse.Namespace) -> Iterator[SongResult]:
    """Each song's result, in order. A limit of examples needs the count so far, so it goes song by song."""
    if args.max_examples is not None or args.num_proc == 1:
        remaining = args.max_examples
        for song in songs:
            if remaining == 0:
                return
            result = preprocess_song(song, prompts.get(song.name), args, remaining)
            remaining = None if remaining is None else remaining - len(result.pairs)
            yield result
        return
    with ProcessPoolExecutor(args.num_proc, multiprocessing.get_context("spawn"), start_worker) as pool:
        futures = [pool.submit(preprocess_song, song, prompts.get(song.name), args, None) for song in songs]
        for future in futures:
            yield future.result()


def folder_name(song: str) -> str:
    """A song's folder: its words run together, because `datasets` takes a word such as "test" for a split's name."""
    words = re.sub(r"[^A-Za-z0-9]+", " ", song).split()
    return "".join(word.capitalize() for word in words) + f"-{zlib.crc32(song.encode()):08x}"


def start_worker() -> None:
    """One thread a process: the songs already fill the cores."""
    torch.set_num_threads(1)
    keep_freed_memory()


def preprocess_song(song: stems.Song, labels: Labels, args: argparse.Namespace, limit: int | None) -> SongResult:
    """All pairs of a song. Bad audio is this song's failure: it is told in the result, and nothing is raised."""
    result = SongResult(song, args.output_dir / song.subset / folder_name(song.name))
    finished = result.folder / SONG_FILE
    try:
        if finished.is_file():
            known = report.load_json(finished)
            result.pairs, result.too_quiet = [Pair(**pair) for pair in known["pairs"]], known["too_quiet"]
        else:
            parts = load_parts(song, args)
            report.make_folder(result.folder)
            result.pairs = list(make_pairs(parts, result, labels, args, limit))
            pairs = [asdict(pair) for pair in result.pairs]
            report.save_json(finished, {"too_quiet": result.too_quiet, "pairs": pairs})
    except UserError as error:
        result.failure = str(error)
    return result


def load_parts(song: stems.Song, args: argparse.Namespace) -> Parts:
    """Read a song's backing and its stem to paint. Raises UserError if it has no usable clip."""
    loaded = {name: stem.mean(axis=0, keepdims=True) for name, stem in stems.load_stems(song, args.fs).items()}
    backing = stems.sum_stems(loaded, without=args.gen_stem)
    painted = loaded[args.gen_stem]
    clip_samples = spectrogram_params(args).clip_samples
    if painted.shape[1] < clip_samples:
        seconds = painted.shape[1] / args.fs
        raise UserError(f"{song.path}: {seconds:.2f} s is shorter than a clip of {clip_samples / args.fs:.2f} s")
    if not painted.any() and args.frame_min_power_prop > 0:
        raise UserError(f"{song.path}: {args.gen_stem} is silent throughout")
    return Parts(backing, painted, ", ".join(sorted(set(loaded) - {args.gen_stem})))


def make_pairs(
    parts: Parts, result: SongResult, labels: Labels, args: argparse.Namespace, limit: int | None
) -> Iterator[Pair]:
    """Cut, filter and draw the pairs of one song, at each pitch, until `limit`."""
    params = spectrogram_params(args)
    converter = SpectrogramConverter(params, args.device)
    made = 0
    for semitones in (0, *(PITCH_STEPS if args.pitch_augment else ())):
        backing, painted = (stems.shift_pitch(part, semitones) for part in (parts.backing, parts.painted))
        starts = stems.clip_starts(painted.shape[1], params.clip_samples, args.frame_overlap)
        loud = stems.loud_clips(painted, starts, params.clip_samples, args.frame_min_power_prop)
        result.too_quiet += len(starts) - len(loud)
        for clip in loud:
            if made == limit:
                return
            part = slice(starts[clip], starts[clip] + params.clip_samples)
            rng = random.Random(f"{args.seed} {result.song.name} {clip} {semitones}")
            text = instructions.write_instruction(args.gen_stem, labels, rng)
            name = f"clip{clip:03d}_pitch{semitones:+d}"
            made += 1
            yield Pair(
                **draw_pair(backing[:, part], painted[:, part], result.folder / name, converter, args),
                original_prompt=text.original_prompt,
                edit_prompt=text.edit_prompt,
                edited_prompt=text.edited_prompt,
                song=result.song.name,
                clip=clip,
                start_seconds=round(starts[clip] / args.fs * 2 ** (semitones / 12), 6),  # in the song as it was
                semitones=semitones,
                backing_stems=parts.backing_stems,
                painted_stem=args.gen_stem,
                task="add",
                target=args.target,
            )


def draw_pair(
    backing: np.ndarray, painted: np.ndarray, path: Path, converter: SpectrogramConverter, args: argparse.Namespace
) -> dict[str, object]:
    """Write both pictures (and wav files) of one clip on one scale; returns what a record says of them."""
    mix = backing + painted
    gain = min(1.0, 1.0 / float(max(np.abs(backing).max(), np.abs(mix).max(), 1e-9)))
    edited = mix if args.target == "mix" else painted
    signals = {"original": gain * backing, "edited": gain * edited}
    mels = {
        name: converter.mel_amplitudes_from_waveform(torch.from_numpy(signal)).cpu().numpy()
        for name, signal in signals.items()
    }
    max_value = shared_max_value(mels["original"], mels["edited"])
    record: dict[str, object] = {"gain": gain, "max_value": max_value}
    for name, mel in mels.items():
        image = path.with_name(f"{path.name}_{name}.png")
        save_png(image_from_spectrogram(mel, converter.params, max_value), image)
        record[f"{name}_image_file_name"] = f"{image.parent.name}/{image.name}"
        if args.save_wav:
            save_wav(image.with_suffix(".wav"), signals[name], args.fs)
    return record


def write_metadata(results: list[SongResult], args: argparse.Namespace) -> None:
    """One metadata.jsonl a subset, file names relative to it: what `datasets` reads."""
    for subset in sorted({result.song.subset for result in results}):
        pairs = [pair for result in results if result.song.subset == subset for pair in result.pairs]
        if pairs:
            write_records(args.output_dir / subset / METADATA, pairs)


def write_report(results: list[SongResult], prompts: dict, args: argparse.Namespace) -> int:
    """Write report.json and print the closing table. Exit code 2 if a song failed."""
    failed = [result for result in results if result.failure]
    unlabelled = [result.song.name for result in results if result.song.name not in prompts]
    pairs = sum(len(result.pairs) for result in results)
    summary = {
        "songs": len(results),
        "pairs": pairs,
        "clips too quiet": sum(result.too_quiet for result in results),
        "songs without labels": unlabelled,
        "songs failed": {result.song.name: result.failure for result in failed},
    }
    report.save_json(args.output_dir / "report.json", summary)
    if not args.silence:
        print(report.table([{**summary, "songs without labels": len(unlabelled), "songs failed": len(failed)}]))
        print(f"{args.output_dir}: {pairs} pairs; report.json has the names")
    return 2 if failed else 0


if __name__ == "__main__":
    run_script(main, parse_args())
