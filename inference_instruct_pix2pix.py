"""Paint a part into music by instruction, or into the pictures of a dataset.

    python inference_instruct_pix2pix.py --model_id checkpoints/small --audio song.wav --prompt "add a female vocal"
    python inference_instruct_pix2pix.py --seed --max_samples 10 --num_inference_steps 100

With audio each song gets a folder with input.wav, painted.wav (the input and the new part), stem.wav (the new part
alone), a picture of each, and result.json. "Remove the bass" takes the painted stem away from the input, "extract the
bass" leaves it alone. With a dataset each sample gets its pictures, and sound made from them.
"""

import argparse
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from riffusion import audio, metrics, model, report, stems
from riffusion.dataset import dataset_target, held_out_split, load_splits, require_columns
from riffusion.edits import TASKS, apply_edit, apply_edit_exactly, changed_stem
from riffusion.errors import UserError
from riffusion.image import image_from_spectrogram, spectrogram_from_image
from riffusion.instructions import read_task
from riffusion.painting import Painter, paint_waveform, unedited_images
from riffusion.pair import save_png
from riffusion.runtime import run_script, torch_device
from riffusion.sampling import choose_settings, edit_images
from riffusion.spectrogram import ExifTags, SpectrogramConverter, SpectrogramParams


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model_id", default="zachary-shah/riff-pix2pix-v1", help="model folder or Hub name (default: %(default)s)")
    add("--dataset_id", default="zachary-shah/musdb18-spec-pix2pix-test", help="dataset folder or Hub name")
    add("--audio", type=Path, nargs="+", metavar="FILE", help="songs to paint into, instead of a dataset")
    add("--prompt", help="the instruction for --audio")
    add("--task", choices=TASKS, help="what becomes of the painted stem (default: what the instruction's verb says)")
    add("--without_stem", metavar="STEM", help="for --audio files in stems (.stem.mp4): the input leaves this one out")
    add("--name", help="name of the result's folder (default: the song's name)")
    add("--base_save_path", type=Path, default=Path("outputs"), help="where results go (default: %(default)s)")
    add("--max_samples", type=int, default=25, help="most records of the dataset to edit (default: %(default)s)")
    add("--num_inference_steps", type=int, default=20, help="denoising steps (default: %(default)s)")
    add("--guidance_scale", type=float, help="text guidance (default: what the model says, else 15)")
    add("--image_guidance_scale", type=float, help="image guidance (default: what the model says, else 1.5)")
    add("--seed", type=int, nargs="?", const=0, help="fix the noise; alone it means 0 (default: a random one)")
    add("--batch_size", type=int, default=4, help="clips sampled together (default: %(default)s)")
    add("--device", type=torch_device, help="torch device (default: cuda if there is one, else cpu)")
    args = parser.parse_args(argv)
    if (args.audio is None) != (args.prompt is None):
        parser.error("--audio and --prompt go together")
    if args.name and (args.audio is None or len(args.audio) > 1):
        parser.error("--name names the result of one --audio file")
    for name in ("max_samples", "num_inference_steps", "batch_size"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if args.seed is not None and args.seed < 0:
        parser.error("--seed must not be negative")
    if args.seed is None:
        args.seed = secrets.randbelow(2**31)
    args.device = args.device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return args


def main(args: argparse.Namespace) -> int:
    facts = model.load_facts(args.model_id)
    settings = choose_settings(
        facts, args.guidance_scale, args.image_guidance_scale, args.num_inference_steps, args.seed
    )
    converter = SpectrogramConverter(facts.params, str(args.device))
    songs = load_songs(converter, args) if args.audio is not None else []  # bad input is told before any work
    records = load_records(args) if args.audio is None else None
    dtype = torch.float16 if args.device.type == "cuda" else torch.float32
    pipeline = model.load_pipeline(args.model_id, str(args.device), dtype)
    report.make_folder(args.base_save_path)
    painter = Painter(pipeline, converter, facts.target, settings, args.batch_size)
    if records is None:
        results = [paint_song(song, painter, args) for song in songs]
    else:
        results = paint_records(records, painter, args)
    print(report.table(results))
    print(f"seed {args.seed}, text guidance {settings.guidance_scale}, image guidance {settings.image_guidance_scale}")
    return 0


@dataclass
class InputSong:
    """A song as it came: integer samples (channels, samples) of `bits` bits, and mono float at the model's rate."""

    name: str
    samples: np.ndarray
    rate: int
    bits: int
    mono: np.ndarray  # (1, samples)
    clipped: int  # samples beyond full scale in a float file, which integers can't hold


def load_songs(converter: SpectrogramConverter, args: argparse.Namespace) -> list[InputSong]:
    """Read every file of --audio. Raises UserError if one can't be used, or two would share a folder."""
    songs = [load_song(path, converter, args) for path in args.audio]
    names = [song.name for song in songs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two of the songs are named {name!r}: paint them one at a time, with --name")
    return songs


def load_song(path: Path, converter: SpectrogramConverter, args: argparse.Namespace) -> InputSong:
    """Read an audio file, or the stems of a song without one of them. Raises UserError if it is too short."""
    if args.without_stem is None and path.is_dir():
        raise UserError(f"{path}: a folder of stems needs --without_stem, the stem to leave out of the input")
    if args.without_stem is None:
        samples, rate = audio.load_audio(path)
        bits = audio.file_bits(path)
    else:
        rate, bits = converter.params.sample_rate, 16
        samples = stems.sum_stems(stems.load_stems(stems.Song(path.name, path), rate), without=args.without_stem)
    integers = audio.to_integers(samples, bits)
    mono = samples.mean(axis=0, keepdims=True)
    if rate != converter.params.sample_rate:
        mono = audio.resample(mono, rate, converter.params.sample_rate)
    if mono.shape[1] < converter.params.clip_samples:
        seconds, least = samples.shape[1] / rate, converter.params.clip_seconds
        raise UserError(f"{path}: {seconds:.3f} s is shorter than a clip of {least:.3f} s")
    name = args.name or path.resolve().name
    if path.is_file() and not args.name:
        name = name.removesuffix(stems.STEM_MP4).removesuffix(path.suffix)
    return InputSong(name, integers, rate, bits, mono, clipped=int(np.count_nonzero(np.abs(samples) > 1)))


def paint_song(song: InputSong, painter: Painter, args: argparse.Namespace) -> dict[str, object]:
    """Paint a whole song, clip by clip, and write its folder. Returns the row of the closing table."""
    converter, task = painter.converter, args.task or read_task(args.prompt)
    mono_stem = paint_waveform(song.mono, args.prompt, task, song.name, painter)
    if song.rate != converter.params.sample_rate:
        mono_stem = audio.resample(mono_stem, converter.params.sample_rate, song.rate)
    stem = np.zeros(song.samples.shape, dtype=np.float32)
    samples = min(stem.shape[1], mono_stem.shape[1])
    stem[:, :samples] = mono_stem[:, :samples]
    painted, fitting, limited = apply_edit_exactly(task, song.samples, audio.to_integers(stem, song.bits), song.bits)
    folder = report.make_folder(args.base_save_path / song.name)
    for name, signal in {"input": song.samples, "painted": painted, "stem": fitting}.items():
        audio.save_wav(folder / f"{name}.wav", signal, song.rate, song.bits)
    mels = save_pictures(folder, song, fitting, task, converter)
    edit = metrics.measure_edit(mels["stem"], mels["input"])
    voicing = metrics.measure_voicing(fitting.mean(axis=0) / 2 ** (song.bits - 1), song.rate)
    row = result_row(folder, task, edit) | {
        "voiced %": 100 * voicing.voiced_share,
        "median pitch Hz": voicing.median_f0_hz,
        "samples limited": limited,
        "input samples clipped": song.clipped,
    }
    settings = asdict(painter.settings) | {"prompt": args.prompt, "model_id": args.model_id, "target": painter.target}
    report.save_json(folder / "result.json", row | settings)
    return row


def save_pictures(
    folder: Path, song: InputSong, stem: np.ndarray, task: str, converter: SpectrogramConverter
) -> dict[str, np.ndarray]:
    """Pictures of the input, the painted result and the stem, on one scale; returns their mel amplitudes."""
    rate = converter.params.sample_rate
    mono_stem = stem.mean(axis=0, keepdims=True, dtype=np.float32) / 2 ** (song.bits - 1)
    if song.rate != rate:
        mono_stem = audio.resample(mono_stem, song.rate, rate)
    samples = min(mono_stem.shape[1], song.mono.shape[1])
    signals = {"input": song.mono[:, :samples], "stem": mono_stem[:, :samples]}
    signals["painted"] = apply_edit(task, signals["input"], signals["stem"])
    mels = {
        name: converter.mel_amplitudes_from_waveform(torch.from_numpy(signal)).cpu().numpy()
        for name, signal in signals.items()
    }
    max_value = max(float(mel.max()) for mel in mels.values())
    for name, mel in mels.items():
        save_png(image_from_spectrogram(mel, converter.params, max_value), folder / f"{name}.png")
    return {name: mel[0] for name, mel in mels.items()}


def load_records(args: argparse.Namespace) -> datasets.Dataset:
    """The dataset's first records: of its held-out split, or its only one."""
    splits = load_splits(args.dataset_id)
    records = held_out_split(splits) or next(iter(splits.values()))
    require_columns(records, ["original_image", "edit_prompt", "edited_image"])
    return records.select(range(min(args.max_samples, len(records))))


def paint_records(records: datasets.Dataset, painter: Painter, args: argparse.Namespace) -> list[dict[str, object]]:
    """Edit the pictures of a dataset and write each sample's folder; the closing table has a row a sample."""
    target = dataset_target(records)
    rows = []
    with tqdm(total=len(records), unit="sample") as progress:
        for first in range(0, len(records), painter.batch_size):
            batch = records.select(range(first, min(first + painter.batch_size, len(records))))
            names = [f"sample-{first + number:03d}" for number in range(len(batch))]
            images, prompts = list(batch["original_image"]), list(batch["edit_prompt"])
            edited = edit_images(painter.pipeline, images, prompts, names, painter.settings)
            unedited = unedited_images(images, painter)
            for name, record, before, after in zip(names, batch, unedited, edited, strict=True):
                rows.append(save_sample(name, record, (before, after), target, painter, args))
                progress.update()
    return rows


def save_sample(
    name: str,
    record: dict,
    pictures: tuple[Image.Image, Image.Image],
    target: str,
    painter: Painter,
    args: argparse.Namespace,
) -> dict[str, object]:
    """Write one sample's pictures and, by Griffin-Lim, its sound: original, painted and target.

    `pictures` are what the model makes of the input unedited and edited; `target` says what the record's is.
    """
    exif = record["original_image"].getexif()
    params = SpectrogramParams.from_exif(exif)
    max_value = float(exif.get(ExifTags.MAX_VALUE, 1.0))
    original, true, before, after = (
        spectrogram_from_image(image, params, max_value)
        for image in (record["original_image"], record["edited_image"], *pictures)
    )
    task = args.task or record.get("task") or read_task(record["edit_prompt"])
    mels = {
        "original": original,
        "painted": after if painter.target == "mix" else np.maximum(apply_edit(task, original, after), 0),
        "target": true if target == "mix" else np.maximum(apply_edit(task, original, true), 0),
    }
    slug = re.sub(r"[^a-z0-9]+", "-", record["edit_prompt"].lower()).strip("-")[:60]
    folder = report.make_folder(args.base_save_path / f"{name}-{slug}")
    converter = painter.converter
    sounds = {kind: converter.waveform_from_mel_amplitudes(torch.from_numpy(mel)).cpu() for kind, mel in mels.items()}
    peak = max(float(sound.abs().max()) for sound in sounds.values())
    gain = 1 / peak if peak > 1 or ExifTags.MAX_VALUE not in exif else 1.0  # without the tag the level is unknown
    for kind, mel in mels.items():
        save_png(image_from_spectrogram(mel, params, max_value), folder / f"{kind}.png")
        audio.save_wav(folder / f"{kind}.wav", gain * sounds[kind].numpy(), params.sample_rate)
    stem = np.maximum(changed_stem(task, before, after - before), 0) if painter.target == "mix" else after
    row = result_row(folder, task, metrics.measure_edit(stem.mean(axis=0), original.mean(axis=0)))
    settings = asdict(painter.settings) | {"prompt": record["edit_prompt"], "model_id": args.model_id}
    report.save_json(folder / "result.json", row | settings | {"target": painter.target})
    return row


def result_row(folder: Path, task: str, edit: metrics.Edit) -> dict[str, object]:
    """A line of the closing table: where the result is, and what was measured of it; a verdict only on "add"."""
    return {
        "result": str(folder),
        "task": task,
        "stem level dB": edit.level_db,
        "active %": 100 * edit.active_share,
        "edit performed": ("yes" if edit.performed else "no") if task == "add" else "-",
    }


if __name__ == "__main__":
    run_script(main, parse_args())
