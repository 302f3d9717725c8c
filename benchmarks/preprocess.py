"""How fast are pairs made, beside the original's way of making them, and how much memory does it take?

    python benchmarks/preprocess.py --root_data_dir ../shared/data/leadsheets/valid --json preprocess.json

`the original's way` is written down again here: one song after another with torch on all cores, and for each picture
mel filters built anew, an STFT of padded frames, a dense mel product and a JPEG; with pitch augmentation both stems of
every clip are shifted by librosa for every step. Its start-up isn't counted, ours is. All rows read the same songs in
one run. `CPU s a pair` adds up all processes. Memory is the peak of all processes together: proportional set size, in
which shared pages count once. `stages` says where the CPU seconds of the first song go, in one process.
"""

import argparse
import cProfile
import os
import pstats
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import librosa
import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import Records, run_measures
from watching import watch
from whole_songs import load_stems

import preprocess_musdb
import upload_musdb
from riffusion.audio import load_recording, save_wav, temporary_folder
from riffusion.pairs import song_pairs, stems
from riffusion.pairs.clips import cut_clips
from riffusion.pairs.features import Features
from riffusion.pairs.instructions import Instruction, SongLabels
from riffusion.pairs.options import PITCH_STEPS, PairOptions
from riffusion.pairs.pair import METADATA, ImageFiles, Pair, Scale, Source, write_records
from riffusion.pairs.tasks import ADD, Edit
from riffusion.spectrogram_params import SpectrogramParams
from riffusion.util.flags import Help
from riffusion.util.runtime import run_script

CLIP_SAMPLES = SpectrogramParams().clip_samples
ORIGINAL_PLAN = ["--recipe", "original"]

# What the profiler's functions are stages of; what they call counts with them, and what no stage names is the rest.
STAGES = {
    "look through the stems": ["stems.py:mix_down", "preprocess.py:reference_mono"],
    "find mixtures": ["stems.py:without_mixtures"],
    "read clips, shift their pitch": ["stems.py:read_shifted", "effects.py:pitch_shift"],
    "resample to 24 kHz": ["spectrogram.py:to_analysis_rate"],
    "build mel filters": ["spectrogram.py:mel_filters", "preprocess.py:reference_filters"],
    "STFT": ["~:<built-in method torch._C._fft.fft_rfft>", "functional.py:stft"],
    "magnitudes": ["spectrogram.py:magnitudes", "~:<method 'abs' of 'torch._C.TensorBase' objects>"],
    "mel product": ["~:<built-in method torch._C._sparse._sparse_mm>", "preprocess.py:mel_product"],
    "pixels": ["image.py:pixels_from_mel", "image.py:changed_share", "preprocess.py:reference_pixels"],
    "PNG or JPEG": ["image.py:save_png", "preprocess.py:save_jpeg"],
    "pitch and onsets": ["features.py:measure_pitch", "features.py:measure_onsets"],
}
STAGE_NAMES = ("decode (ffmpeg)", *STAGES, "rest")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("--root_data_dir", type=Path, required=True, help="songs in stems, with vocals")
    add("--max_songs", type=int, default=12, help="songs without pitch augmentation; 0 for none (default: 12)")
    add("--max_shifted_songs", type=int, default=4, help="songs with pitch augmentation; 0 for none (default: 4)")
    add("--long_seconds", type=int, default=600, help="length of the long song of `memory`")
    add("--many_songs", type=int, default=500, help="short songs of `memory`")
    add("--records", type=int, default=100_000, help="records of `upload`, in hundreds of songs")
    add("--num_proc", type=int, default=os.cpu_count(), help="processes of our script (default: all cores)")
    add("--kills", type=int, default=10, help="times that a run is killed before it may finish (default: 10)")
    add("--measure", nargs="+", choices=MEASURES, default=list(MEASURES), help="what to measure (default: all)")
    add("--json", type=Path, help="also write the figures here (default: print them only)")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Options:
    """The flags."""

    root_data_dir: Path
    max_songs: int
    max_shifted_songs: int
    long_seconds: int
    many_songs: int
    records: int
    num_proc: int
    kills: int
    measure: list[str]
    json: Path | None


def main(args: argparse.Namespace) -> int:
    """Measure; returns the exit code."""

    def take(name: str) -> Records:
        with tempfile.TemporaryDirectory() as folder:
            return MEASURES[name](Options(**vars(args)), Path(folder))

    return run_measures(args, take)


def measure_throughput(options: Options, folder: Path) -> list[dict[str, object]]:
    """Pairs a second of the original's way, of ours with its plan, and of ours as it comes."""
    rows: list[dict[str, object]] = []
    for flags, songs in (([], options.max_songs), (["--pitch_augment"], options.max_shifted_songs)):
        if songs == 0:
            continue
        root = link_songs(options.root_data_dir, songs, folder / f"songs{len(flags)}")
        runs = {
            "the original's way": run_reference(root, bool(flags), folder),
            "ours, the original's plan": run(options, root, folder / f"plan{len(flags)}", *ORIGINAL_PLAN, *flags),
            "ours": run(options, root, folder / f"ours{len(flags)}", *flags),
        }
        reference = runs["the original's way"]
        for name, made in runs.items():
            row: dict[str, object] = {"way": name, "pitch steps": 6 if flags else 0, "songs": songs}
            row |= {"pairs": made.pairs, "seconds": made.seconds, "CPU s a pair": made.cpu_seconds / made.pairs}
            rate = made.pairs / made.seconds
            times = rate / (reference.pairs / reference.seconds)
            rows.append(row | {"pairs a second": rate, "times the original": times})
    return rows


@dataclass(frozen=True)
class Run:
    """What a run made and took; the CPU seconds and the peak memory are those of all its processes."""

    pairs: int
    seconds: float
    cpu_seconds: float
    peak_mb: float = 0.0


def run_reference(root: Path, pitch_augment: bool, folder: Path) -> Run:
    """All pairs of the original's way."""
    warm_reference()
    started, before = time.perf_counter(), cpu_seconds()
    pairs = count_pairs(root, pitch_augment, folder)
    return Run(pairs, time.perf_counter() - started, cpu_seconds() - before)


def count_pairs(root: Path, pitch_augment: bool, folder: Path) -> int:
    """Make all pairs of the original's way; returns how many."""
    return sum(1 for _ in reference_pairs(root, pitch_augment, folder))


def warm_reference() -> None:
    """Have everything imported and compiled that the original's way needs."""
    noise = np.random.default_rng(0).standard_normal(CLIP_SAMPLES).astype(np.float32)
    reference_picture(librosa.effects.pitch_shift(noise, sr=44100, n_steps=1))


def cpu_seconds() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def measure_stages(options: Options, folder: Path) -> list[dict[str, object]]:
    """CPU seconds of each stage for the first song, by the original's way and by ours, in this process."""
    root = link_songs(options.root_data_dir, 1, folder / "songs")
    (song,) = stems.find_songs(root)
    warm_reference()
    torch.set_num_threads(1)  # as in a worker of our script; the original's way takes no less with more
    plan = preprocess_musdb.parse_args([*ORIGINAL_PLAN, "--root_data_dir", str(root), "--output_dir", str(folder)])
    original = preprocess_musdb.pair_options(plan)
    columns, pairs = {}, {}
    no_steps: tuple[int, ...] = ()
    for name, steps in (("", no_steps), (", 6 pitch steps", PITCH_STEPS)):
        works: dict[str, Callable[[], int]] = {
            "the original's way": partial(count_pairs, root, bool(steps), folder),
            "its plan": partial(save_pairs, song, replace(original, pitch_steps=steps), folder),
            "ours": partial(save_pairs, song, PairOptions(pitch_steps=steps), folder),
        }
        for way, work in works.items():
            columns[f"{way}{name}"], pairs[f"{way}{name}"] = profile_stages(work)
    rows = [{"stage": stage, **{way: taken[stage] for way, taken in columns.items()}} for stage in STAGE_NAMES]
    rows.append({"stage": "all", **{way: sum(taken.values()) for way, taken in columns.items()}})
    return [*rows, {"stage": "pairs", **pairs}]


def save_pairs(song: stems.Song, options: PairOptions, folder: Path) -> int:
    """Make and save all pairs of a song; returns how many."""
    with tempfile.TemporaryDirectory(dir=folder) as output:
        made = song_pairs.pairs_of(song, options, SongLabels())
        return len([pair.save(Path(output), options.save_wav) for pair in made])


def profile_stages(work: Callable[[], int]) -> tuple[dict[str, float], int]:
    """CPU seconds of each of `STAGE_NAMES`, and what `work` returns."""
    profile, before = cProfile.Profile(time.process_time), os.times()
    result = profile.runcall(work)
    after = os.times()
    taken = dict.fromkeys(STAGE_NAMES, 0.0)
    taken["decode (ffmpeg)"] = sum(after[2:4]) - sum(before[2:4])
    found = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (file, _, function), (_, _, _, cumulated, _) in found.items():
        name = f"{Path(file).name}:{function}"
        taken |= {stage: taken[stage] + cumulated for stage, names in STAGES.items() if name in names}
    taken["rest"] = sum(after[:2]) - sum(before[:2]) - sum(taken[stage] for stage in STAGES)
    return taken, result


def link_songs(root: Path, number: int, folder: Path) -> Path:
    """A folder with links to the first songs of `root`."""
    folder.mkdir()
    for song in stems.find_songs(root)[:number]:
        (folder / song.path.name).symlink_to(song.path.resolve())
    return folder


def run(options: Options, root: Path, output: Path, *flags: str, with_memory: bool = False) -> Run:
    """Run our script as a user does."""
    taken = watch(command(options, root, output, *flags), with_memory)
    pairs = sum(len(path.read_text().splitlines()) for path in output.rglob(METADATA))
    return Run(pairs, taken.seconds, taken.cpu_seconds, taken.peak_mb)


def command(options: Options, root: Path, output: Path, *flags: str) -> list[str]:
    """Our script, making pairs of a folder of songs."""
    script = [sys.executable, preprocess_musdb.__file__, "--silence", "--num_proc", str(options.num_proc), *flags]
    return [*script, "--root_data_dir", str(root), "--output_dir", str(output)]


def reference_mono(song: stems.Song, folder: Path) -> dict[str, np.ndarray]:
    """All stems of a song, (samples,), decoded in one run."""
    mono = {
        name: load_recording(recording, 44100)[0].mean(axis=0) for name, recording in stems.open_stems(song, folder)
    }
    longest = max(map(len, mono.values()))
    return {name: stems.pad_to(stem, longest) for name, stem in mono.items()}


def reference_pairs(root: Path, pitch_augment: bool, folder: Path) -> Iterator[Path]:
    """The original's pairs of backing and mix, one vocal clip after another."""
    for song in stems.find_songs(root):
        with temporary_folder() as working:
            loaded = reference_mono(song, working)
        vocals = loaded.pop("vocals")
        backing = np.sum(list(loaded.values()), axis=0)
        least = 0.4 * float(np.mean(vocals**2))
        for start in range(0, len(vocals) - CLIP_SAMPLES + 1, CLIP_SAMPLES):
            part = slice(start, start + CLIP_SAMPLES)
            if np.mean(vocals[part] ** 2) < least:
                continue
            for steps in (0, *(PITCH_STEPS if pitch_augment else ())):
                under, sung = backing[part], vocals[part]
                if steps:
                    under = librosa.effects.pitch_shift(under, sr=44100, n_steps=steps)
                    sung = librosa.effects.pitch_shift(sung, sr=44100, n_steps=steps)
                path = folder / f"{song.name}-{start}-{steps}"
                save_jpeg(reference_picture(under), f"{path}-original.jpg")
                save_jpeg(reference_picture(under + sung), f"{path}-edited.jpg")
                yield path


def save_jpeg(picture: Image.Image, path: str) -> None:
    """Write a picture as the original did."""
    picture.save(path)


def reference_picture(waveform: np.ndarray) -> Image.Image:
    """A Riffusion picture as the original made each one."""
    window = torch.hann_window(4410)
    signal = torch.from_numpy(waveform.astype(np.float32))
    magnitude = torch.stft(signal, 17640, 441, 4410, window, return_complex=True).abs()
    mel = mel_product(reference_filters(), magnitude)
    return Image.fromarray(reference_pixels(mel.numpy())).convert("RGB")


def mel_product(filters: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Filters (bins, bands) times (bins, frames), dense."""
    return filters.T @ magnitude


def reference_pixels(mel: np.ndarray) -> np.ndarray:
    """Grey levels of mel amplitudes, each picture on a scale of its own."""
    return np.ascontiguousarray((255 - 255 * (mel / mel.max()) ** 0.25).astype(np.uint8)[::-1])


def reference_filters() -> torch.Tensor:
    """HTK mel filters (bins, bands), with the operations of torchaudio's melscale_fbanks."""
    hertz = torch.linspace(0, 22050, 8821)
    mels = torch.linspace(0, 2595 * np.log10(1 + 10000 / 700), 514)
    edges = 700 * (10 ** (mels / 2595) - 1)
    widths = edges[1:] - edges[:-1]
    slopes = edges[None] - hertz[:, None]
    return torch.clamp(torch.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]), min=0)


def measure_memory(options: Options, folder: Path) -> list[dict[str, object]]:
    """Peak memory for one long song and for many short ones, beside the songs as they are."""
    first = load_stems(stems.find_songs(options.root_data_dir)[0])
    (folder / "long" / "song").mkdir(parents=True)
    samples = options.long_seconds * 44100
    for name, stem in first.items():
        mono = np.tile(stem.mean(axis=0), 1 + samples // stem.shape[1])[:samples]
        save_wav(folder / "long" / "song" / f"{name}.wav", np.stack([mono, mono]), 44100)
        (folder / "short").mkdir(exist_ok=True)
        save_wav(folder / "short" / f"{name}.wav", stem[:, : 26 * 44100][:, -6 * 44100 :], 44100)
    (folder / "many").mkdir()
    for number in range(options.many_songs):
        (folder / "many" / f"song {number}").symlink_to(folder / "short")
    roots = {
        "4 songs as they are": link_songs(options.root_data_dir, 4, folder / "songs"),
        f"one of {options.long_seconds} s, stereo": folder / "long",
        f"{options.many_songs} of 6 s": folder / "many",
    }
    rows = []
    for name, root in roots.items():
        made = run(options, root, folder / f"pairs {name}", with_memory=True)
        rows.append({"songs": name, "pairs": made.pairs, "seconds": made.seconds, "peak MB": made.peak_mb})
    return rows


def measure_kills(options: Options, folder: Path) -> list[dict[str, object]]:
    """Kill a run at random moments, each time starting it again; the last one may finish."""
    root = link_songs(options.root_data_dir, 4, folder / "songs")
    seconds = run(options, root, folder / "straight").seconds
    rng = random.Random(0)
    for _ in range(options.kills):
        process = subprocess.Popen(command(options, root, folder / "killed"))
        time.sleep(rng.uniform(0.2, 0.8) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    run(options, root, folder / "killed")
    straight, killed = read_tree(folder / "straight"), read_tree(folder / "killed")
    differing = sum(straight.get(name) != killed.get(name) for name in {*straight, *killed})
    return [{"kills": options.kills, "files": len(straight), "files that differ": differing}]


def measure_upload(options: Options, folder: Path) -> list[dict[str, object]]:
    """Time and peak memory of making Parquet files of many records with small pictures."""
    rng = np.random.default_rng(0)
    for song in range(100):
        home = folder / "pairs" / f"Song{song}"
        home.mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 256, (48, 48), dtype=np.uint8)
            Image.fromarray(pixels).save(home / f"{number}.png")
        names = [(f"{clip % 20}.png", f"{(clip + 1) % 20}.png") for clip in range(options.records // 100)]
        sources = [Source(f"song {song}", clip, 0.0, 0, "bass") for clip in range(len(names))]
        parts = zip(names, sources, strict=True)
        write_records(home / METADATA, (vocal_pair(ImageFiles(*files), source) for files, source in parts))
    flags = ["--data_root", str(folder / "pairs"), "--output_dir", str(folder / "parquet")]
    taken = watch([sys.executable, upload_musdb.__file__, *flags], with_memory=True)
    written = sum(pq.read_metadata(path).num_rows for path in (folder / "parquet" / "data").iterdir())
    return [
        {"records": options.records, "rows in Parquet": written, "seconds": taken.seconds, "peak MB": taken.peak_mb}
    ]


def vocal_pair(images: ImageFiles, source: Source) -> Pair:
    """A record of its own pictures and clip, and nothing else that differs."""
    text = Instruction(original_prompt="", edit_prompt="add a vocal", edited_prompt="")
    scale = Scale(target="stem", gain=0.0, max_value=0.0, changed_share=0.0)
    return Pair(images, text, source, Edit(ADD, "vocals"), scale, Features())


def measure_stems(options: Options, folder: Path) -> list[dict[str, object]]:
    """CPU seconds that a clip takes once it is read, of songs of 4 and of 24 stems that hold the same music."""
    torch.set_num_threads(1)  # as in a worker of our script
    pairs: Counter[int] = Counter()
    seconds: dict[int, list[float]] = {4: [], 24: []}
    clips = [time_clips(write_parts(options.root_data_dir, number, folder), folder) for number in seconds]
    for timed in zip(*clips, strict=True):  # one after the other, so that both meet the same machine
        for number, (made, taken) in zip(seconds, timed, strict=True):
            pairs[number] += made
            seconds[number].append(taken)
    medians = {number: float(np.median(taken)) for number, taken in seconds.items()}
    return [
        {
            "stems": number,
            "clips": len(seconds[number]),
            "pairs": pairs[number],
            "CPU seconds a clip": median,
            "times that of 4 stems": median / medians[4],
        }
        for number, median in medians.items()
    ]


def write_parts(root: Path, number: int, folder: Path) -> stems.Song:
    """A song of `number` stems in `folder`: the first song's of `root` over and over, each time later and as loud."""
    folder = folder / f"{number} stems"
    folder.mkdir()
    signals = [stem.mean(axis=0) for stem in load_stems(stems.find_songs(root)[0]).values()]
    for part in range(number):
        signal = np.roll(signals[part % len(signals)], part // len(signals) * CLIP_SAMPLES // 7)
        save_wav(folder / f"part {part:02d}.wav", signal[None] * len(signals) / number, 44100)
    return stems.Song(folder.name, folder)


def time_clips(song: stems.Song, folder: Path) -> Iterator[tuple[int, float]]:
    """Pairs made of each clip of a song, and the CPU seconds that they took from when the clip was read."""
    options, output = PairOptions(), folder / f"pairs of {song.name}"
    output.mkdir()
    converter = song_pairs.converter_of(options)
    mixed_down = stems.mix_down(song, options.sample_rate, output)
    work = song_pairs.SongWork(song, SongLabels(), frozenset(mixed_down.files), converter, options)
    for clip in cut_clips(mixed_down, converter.params, 0.0, 0):
        started = time.process_time()
        pairs = [pair.save(output) for pair in song_pairs.make_clip_pairs(clip, work)]
        yield len(pairs), time.process_time() - started


def read_tree(folder: Path) -> dict[str, bytes]:
    """The content of all files by their paths in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


MEASURES = {
    "throughput": measure_throughput,
    "stages": measure_stages,
    "memory": measure_memory,
    "kills": measure_kills,
    "upload": measure_upload,
    "stems": measure_stems,
}


if __name__ == "__main__":
    run_script(main, parse_args())
