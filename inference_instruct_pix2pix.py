"""Paint a part into music by instruction, or into the pictures of a dataset.

    python inference_instruct_pix2pix.py --model_id checkpoints/small --audio song.wav --prompt "add a female vocal"
    python inference_instruct_pix2pix.py --seed --max_samples 10 --num_inference_steps 100

With audio of any length, rate and number of channels, each song gets a folder with input.wav, painted.wav (the input
and the new part), stem.wav (the new part alone), a picture of each, and result.json. "Remove the bass" takes the
painted stem away from the input, "extract the bass" leaves it alone. The input is never touched: in wav and flac,
painted minus stem is the input to the last bit. With a dataset each sample gets its pictures, and sound made from them.
"""

import argparse
import math
import re
import secrets
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import datasets
import numpy as np
import soundfile
import torch
from PIL import Image
from tqdm import tqdm

from riffusion import audio, metrics, model, report, stems
from riffusion.dataset import dataset_target, held_out_split, load_splits, require_columns
from riffusion.edits import TASKS, apply_edit, changed_stem
from riffusion.errors import UserError
from riffusion.image import image_from_spectrogram, spectrogram_from_image
from riffusion.instructions import read_task
from riffusion.mixing import Layers, Placement, mix_song
from riffusion.overview import Overview
from riffusion.painting import Painter, Region, paint_song, unedited_images
from riffusion.pair import save_png
from riffusion.phase import waveform_from_mel_amplitudes
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
    add("--start", type=seconds, default=0.0, metavar="TIME", help="paint from here on, as 75.5 or 1:15.5 (default: 0)")
    add("--end", type=seconds, metavar="TIME", help="and up to here (default: the song's end)")
    add("--stem_gain_db", type=float, default=0.0, help="make the painted stem louder or softer (default: 0)")
    add("--pan", type=float, default=0.0, help="where the stem is in stereo, from -1 (left) to 1 (default: the centre)")
    add("--format", choices=audio.FORMATS, default="wav", help="of the sound files (default: %(default)s)")
    add("--bits", type=int, choices=[16, 24, 32], help="of wav and flac (default: as many as the input has)")
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
    if args.end is not None and args.end <= args.start:
        parser.error("--end must be after --start")
    if not -1 <= args.pan <= 1:
        parser.error("--pan must be from -1 to 1")
    if not -60 <= args.stem_gain_db <= 60:
        parser.error("--stem_gain_db must be from -60 to 60")
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
    with tempfile.TemporaryDirectory() as scratch:
        songs = open_songs(converter.params, Path(scratch), args)  # bad input is told before any work
        records = load_records(args) if args.audio is None else None
        dtype = torch.float16 if args.device.type == "cuda" else torch.float32
        pipeline = model.load_pipeline(args.model_id, str(args.device), dtype)
        report.make_folder(args.base_save_path)
        painter = Painter(pipeline, converter, facts.target, settings, args.batch_size)
        if records is None:
            results = [paint_file(song, painter, args) for song in songs]
        else:
            results = paint_records(records, painter, args)
    print(report.table(results))
    print(f"seed {args.seed}, text guidance {settings.guidance_scale}, image guidance {settings.image_guidance_scale}")
    return 0


def seconds(text: str) -> float:
    """A time in a song, as 75.5 or 1:15.5 or 0:01:15.5."""
    value = 0.0
    for part in text.split(":"):
        value = 60 * value + float(part)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value


@dataclass
class InputSong:
    """A song to paint into: a file that can be read again, as long as the painting takes."""

    name: str
    path: Path
    rate: int
    channels: int
    bits: int
    tags: dict[str, str]
    clipped: int  # samples beyond full scale in a file of floats, which integers can't hold


def open_songs(params: SpectrogramParams, scratch: Path, args: argparse.Namespace) -> list[InputSong]:
    """Look through every file of --audio. Raises UserError if one can't be used, or two would share a folder."""
    songs = [open_song(path, params, scratch, args) for path in args.audio or []]
    names = [song.name for song in songs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two of the songs are named {name!r}: paint them one at a time, with --name")
    return songs


def open_song(path: Path, params: SpectrogramParams, scratch: Path, args: argparse.Namespace) -> InputSong:
    """Look through an audio file, or through the sum of a song's stems without one of them, which is made first.

    Raises UserError if it can't be read to its end, is too short, or can't be written as --format says.
    """
    if args.without_stem is None and path.is_dir():
        raise UserError(f"{path}: a folder of stems needs --without_stem, the stem to leave out of the input")
    name = args.name or path.resolve().name
    if path.is_file() and not args.name:
        name = name.removesuffix(stems.STEM_MP4).removesuffix(path.suffix)
    source, bits = path, args.bits or audio.file_bits(path) if args.without_stem is None else args.bits or 16
    if args.without_stem is not None:
        source = scratch / f"{name}.wav"
        backing = stems.sum_stems(stems.load_stems(stems.Song(path.name, path)), without=args.without_stem)
        soundfile.write(source, backing.T, 44100, subtype="FLOAT")
    samples = clipped = 0
    with audio.open_audio(source) as file:
        song = InputSong(name, source, file.samplerate, file.channels, bits, audio.read_tags(file), 0)
        for block in file.blocks(audio.BLOCK_SAMPLES, dtype="float32", always_2d=True):
            audio.check_audio(block, path)
            samples += len(block)
            clipped += int(np.count_nonzero(np.abs(block) > 1))
    if samples < params.clip_seconds * song.rate:
        raise UserError(f"{path}: {samples / song.rate:.3f} s is shorter than a clip of {params.clip_seconds:.3f} s")
    if args.start * song.rate >= samples:
        raise UserError(f"{path}: --start {args.start} is beyond its end, {samples / song.rate:.3f} s")
    if args.pan and song.channels != 2:
        raise UserError(f"{path}: --pan needs a stereo song, and this one has {song.channels} channels")
    audio.open_output(scratch / f"trial.{args.format}", song.rate, song.channels, bits).close()
    return replace(song, clipped=clipped)


def paint_file(song: InputSong, painter: Painter, args: argparse.Namespace) -> dict[str, object]:
    """Paint over a whole song and write its folder, once all is there. Returns the row of the closing table."""
    folder = report.make_folder(args.base_save_path / song.name)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".painting-") as scratch:
        row, results = paint_into(song, painter, Path(scratch), args)
        for path in results:
            path.replace(folder / path.name)
    row = {"result": str(folder)} | row
    settings = asdict(painter.settings) | {"prompt": args.prompt, "model_id": args.model_id, "target": painter.target}
    settings |= {"start_seconds": args.start, "end_seconds": args.end}
    settings |= {"pan": args.pan, "stem_gain_db": args.stem_gain_db}
    report.save_json(folder / "result.json", row | settings)
    return row


def paint_into(
    song: InputSong, painter: Painter, folder: Path, args: argparse.Namespace
) -> tuple[dict[str, object], list[Path]]:
    """Paint over a whole song, with every file in `folder`. Returns what was measured, and the files to keep."""
    rate, task = painter.converter.params.sample_rate, args.task or read_task(args.prompt)
    mono, mono_stem = folder / "model-input.wav", folder / "model-stem.wav"
    with soundfile.SoundFile(mono, "w", rate, 1, "FLOAT", format="RF64") as file:
        for block in audio.mono_blocks(song.path, rate):
            file.write(block)
        samples = file.tell()
    region = Region(int(args.start * rate), samples if args.end is None else min(int(args.end * rate), samples))
    paint_song(mono, mono_stem, args.prompt, task, song.name, painter, region)
    files = {name: folder / f"{name}.{args.format}" for name in ("input", "painted", "stem")}
    layers = Layers(song.path, mono_stem, args.start, math.inf if args.end is None else args.end)
    limited = mix_song(layers, task, Placement(args.stem_gain_db, args.pan), song.bits, files, song.tags)
    overview = Overview(painter.converter, samples)
    overview.look(mono, files["stem"], task)
    pictures = {folder / f"{name}.png": picture for name, picture in overview.pictures().items()}
    for path, picture in pictures.items():
        save_png(picture, path)
    row = result_row(task, overview.edit()) | {
        "voiced %": 100 * overview.voicing().voiced_share,
        "median pitch Hz": overview.voicing().median_f0_hz,
        "limited dB": limited.most_db,
        "samples limited": limited.samples,
        "input samples clipped": song.clipped,
    }
    return row, [*files.values(), *pictures]


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
    sounds = {kind: waveform_from_mel_amplitudes(converter, torch.from_numpy(mel)).cpu() for kind, mel in mels.items()}
    peak = max(float(sound.abs().max()) for sound in sounds.values())
    gain = 1 / peak if peak > 1 or ExifTags.MAX_VALUE not in exif else 1.0  # without the tag the level is unknown
    for kind, mel in mels.items():
        save_png(image_from_spectrogram(mel, params, max_value), folder / f"{kind}.png")
        audio.save_wav(folder / f"{kind}.wav", gain * sounds[kind].numpy(), params.sample_rate)
    stem = np.maximum(changed_stem(task, before, after - before), 0) if painter.target == "mix" else after
    row = {"result": str(folder)} | result_row(task, metrics.measure_edit(stem.mean(axis=0), original.mean(axis=0)))
    settings = asdict(painter.settings) | {"prompt": record["edit_prompt"], "model_id": args.model_id}
    report.save_json(folder / "result.json", row | settings | {"target": painter.target})
    return row


def result_row(task: str, edit: metrics.Edit) -> dict[str, object]:
    """What the closing table says of an edit; a verdict only on "add"."""
    return {
        "task": task,
        "stem level dB": edit.level_db,
        "active %": 100 * edit.active_share,
        "edit performed": ("yes" if edit.performed else "no") if task == "add" else "-",
    }


if __name__ == "__main__":
    run_script(main, parse_args())
