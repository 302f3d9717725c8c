"""What does it cost as the work grows: more songs, longer songs, more pairs to train on, more files to paint into?

    python benchmarks/scaling.py --json scaling.json
    python benchmarks/scaling.py --work minutes --sizes 1 10 100

`songs` are of 6 s, `minutes` those of one song, both of four mono stems and made into pairs by the original's plan;
`pairs` are opened to train on; `batches` are always as many batches of 4, fetched from a cache of so many pairs'
latents; `files` of 1 s are painted into. All are made of tones and noise. Seconds include the start; memory is the peak
of all processes, in which shared pages count once. Growth is over the size before: where costs are linear that of
seconds is no more than that of the size.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import Records, run_measures
from watching import Taken, watch

import inference_instruct_pix2pix
import preprocess_musdb
from riffusion.audio import save_wav, write_floats
from riffusion.pairs.dataset_check import open_pairs
from riffusion.pairs.features import Features
from riffusion.pairs.instructions import Instruction
from riffusion.pairs.pair import METADATA, ImageFiles, Pair, Scale, Source, write_records
from riffusion.pairs.tasks import ADD, Edit
from riffusion.spectrogram_params import SpectrogramParams
from riffusion.training.cache import Cache
from riffusion.training.examples import TrainingExamples
from riffusion.util import files
from riffusion.util.flags import Help
from riffusion.util.runtime import run_script

RATE = 44100
SECONDS = 6  # of a short song
LATENTS = (4, 8, 8)
CACHED = ("original", "edited_mean")
BATCHES, BATCH_SIZE = 200, 4
NOTED = "noted.json"  # what a child measured itself
SIZES = {
    "songs": (1, 10, 100),
    "minutes": (1, 10),
    "pairs": (1000, 10_000, 100_000),
    "batches": (1000, 10_000, 100_000),
    "files": (1, 10, 100),
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("--work", nargs="+", choices=WORKS, default=list(WORKS), help="what grows (default: all)")
    sizes = ", ".join(f"{name} {' '.join(map(str, some))}" for name, some in SIZES.items())
    add("--sizes", type=int, nargs="+", help=f"how much of it, each in turn (default: {sizes})")
    add("--model_id", default="checkpoints/small", help="model that paints (default: %(default)s)")
    add("--num_inference_steps", type=int, default=1, help="of painting (default: 1)")
    add("--num_proc", type=int, default=2, help="processes of preprocessing (default: 2)")
    add("--measure", nargs="+", choices=MEASURES, default=list(MEASURES), help="what to measure (default: all)")
    add("--json", type=Path, help="also write the figures here (default: print them only)")
    add("--child", nargs=2, metavar=("WORK", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Options:
    """The flags of a run."""

    work: list[str]
    sizes: list[int] | None
    model_id: str
    num_inference_steps: int
    num_proc: int


def main(args: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    if args.child:
        return CHILDREN[args.child[0]](Path(args.child[1]))
    options = Options(args.work, args.sizes, args.model_id, args.num_inference_steps, args.num_proc)
    return run_measures(args, lambda _: measure_scaling(options))


def measure_scaling(options: Options) -> Records:
    """A row for each kind of work and size."""
    rows: Records = []
    for work in options.work:
        before: tuple[int, Taken] | None = None
        for size in options.sizes or SIZES[work]:
            with tempfile.TemporaryDirectory() as folder:
                taken = watch(WORKS[work](size, Path(folder), options), with_memory=True)
                noted = Path(folder, NOTED)
                row: dict[str, object] = {"work": work, "size": size, **taken.row()}
                row |= files.load_json(noted) if noted.is_file() else {}
            if before is not None:
                row["growth of size"] = size / before[0]
                row["of seconds"] = taken.seconds / before[1].seconds
                if before[1].peak_mb:  # nothing is seen of a process that ends at once
                    row["of memory"] = taken.peak_mb / before[1].peak_mb
            rows.append(row)
            before = size, taken
    return rows


def many_songs(number: int, folder: Path, options: Options) -> list[str]:
    """Preprocessing songs, which are links to one."""
    write_song(folder / "song", SECONDS)
    (folder / "songs").mkdir()
    for song in range(number):
        (folder / "songs" / f"song {song}").symlink_to(folder / "song")
    return preprocessing(folder, options)


def long_song(minutes: int, folder: Path, options: Options) -> list[str]:
    """Preprocessing one long song."""
    write_song(folder / "songs" / "song", 60 * minutes)
    return preprocessing(folder, options)


def preprocessing(folder: Path, options: Options) -> list[str]:
    """The command that makes pairs of the songs there."""
    paths = ["--root_data_dir", str(folder / "songs"), "--output_dir", str(folder / "made")]
    flags = ["--recipe", "original", "--silence", "--num_proc", str(options.num_proc)]
    return [sys.executable, preprocess_musdb.__file__, *paths, *flags]


def write_song(folder: Path, seconds: int) -> None:
    """Four stems of tones, written second by second."""
    folder.mkdir(parents=True)
    second = np.arange(RATE) / RATE
    for stem, frequency in {"vocals": 330, "bass": 80, "drums": 1200, "other": 220}.items():
        tone = (0.2 * np.sin(2 * np.pi * frequency * second)).astype(np.float32)
        write_floats(folder / f"{stem}.wav", itertools.repeat(tone, seconds), RATE)


def many_pairs(number: int, folder: Path, options: Options) -> list[str]:
    """Opening pairs to train on, in folders of at most 1000, with a small picture each."""
    exif = Image.Exif()
    exif.update(SpectrogramParams().to_exif(100.0))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 8), dtype=np.uint8))
    text, edit = Instruction("", "add a vocal", ""), Edit(ADD, "vocals")
    scale, heard = Scale("stem", 1.0, 100.0, 0.5), Features()
    for first in range(0, number, 1000):
        home = folder / "pairs" / f"song{first}"
        home.mkdir(parents=True)
        picture.save(home / "in.png", exif=exif)
        clips = range(min(1000, number - first))
        for clip in clips:
            (home / f"{clip}.png").hardlink_to(home / "in.png")
        pairs = (
            Pair(ImageFiles("in.png", f"{clip}.png"), text, Source(home.name, clip, 0.0, 0, "bass"), edit, scale, heard)
            for clip in clips
        )
        write_records(home / METADATA, pairs)
    return child("pairs", folder)


def child(work: str, folder: Path) -> list[str]:
    """The command that does a part of this benchmark in a process of its own."""
    return [sys.executable, str(Path(__file__).resolve()), "--child", work, str(folder)]


def open_all_pairs(folder: Path) -> int:
    """Open the pairs there as training does."""
    open_pairs(str(folder / "pairs"), folder / "cache")
    return 0


def many_latents(number: int, folder: Path, options: Options) -> list[str]:
    """Fetching batches from a cache of so many pairs' latents."""
    cache, keys = Cache(folder / "cache", Accelerator(cpu=True)), [f"{pair:08d}" for pair in range(number)]
    for name in CACHED:
        cache.rows(name, range(number), keys, partial(repeat_latents, name), None, 128)
    np.save(folder / "keys.npy", keys)
    return child("batches", folder)


def repeat_latents(name: str, pairs: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a frozen part would make of some pairs: (pairs, channels, height, width)."""
    return {name: torch.zeros(len(pairs), *LATENTS)}


def fetch_batches(folder: Path) -> int:
    """Fetch batches in the order of training from the cache there, and note the milliseconds that one takes."""
    cache, keys = Cache(folder / "cache", Accelerator(cpu=True)), np.load(folder / "keys.npy").tolist()
    rows = [cache.rows(name, range(len(keys)), keys, dict, None, 128) for name in CACHED]
    examples = TrainingExamples(rows, LATENTS, timesteps=1000)
    started = time.perf_counter()
    fetched = sum(1 for _ in DataLoader(examples, BATCH_SIZE, sampler=range(BATCHES * BATCH_SIZE)))
    files.save_json(folder / NOTED, {"ms a batch": 1000 * (time.perf_counter() - started) / fetched})
    return 0


def many_files(number: int, folder: Path, options: Options) -> list[str]:
    """Painting into files of 1 s."""
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (1, RATE))
    save_wav(folder / "song.wav", noise, RATE)
    (folder / "songs").mkdir()
    for song in range(number):
        (folder / "songs" / f"{song}.wav").symlink_to(folder / "song.wav")
    flags = ["--model_id", options.model_id, "--num_inference_steps", str(options.num_inference_steps), "--quiet"]
    flags += ["--prompt", "add a vocal", "--seed", "0", "--base_save_path", str(folder / "painted")]
    return [sys.executable, inference_instruct_pix2pix.__file__, "--audio", str(folder / "songs"), *flags]


Work = Callable[[int, Path, Options], list[str]]  # size, a folder to work in and the flags to the command to watch
WORKS: dict[str, Work] = {
    "songs": many_songs,
    "minutes": long_song,
    "pairs": many_pairs,
    "batches": many_latents,
    "files": many_files,
}
CHILDREN: dict[str, Callable[[Path], int]] = {"pairs": open_all_pairs, "batches": fetch_batches}
MEASURES = ("scaling",)


if __name__ == "__main__":
    run_script(main, parse_args())
