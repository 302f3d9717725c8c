"""Riffusion's pictures from the shell: sound to a spectrogram picture, and a picture back to sound.

    python -m riffusion audio-to-image --audio clip.wav --image clip.png
    python -m riffusion image-to-audio --image clip.png --audio clip.wav
    python -m riffusion audio-to-image --audio songs "more/*.mp3" --image pictures
    python -m riffusion print-exif --image clip.png

A picture is a mel spectrogram as Riffusion V1 draws it: time to the right, 10 ms a pixel; pitch upwards, 512 bands
from 0 to 10 kHz; the darker, the louder. Other settings are written into its EXIF tags, so Riffusion's own pictures
are read here, and these there. A picture holds no phase: the sound that comes back has the picture's
loudness at every moment and pitch, but is not the recording. Nothing above the highest band comes back.
"""

import argparse
import dataclasses
import glob
import math
import numbers
import os
import struct
import sys
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from riffusion.audio import load_audio, save_wav
from riffusion.spectrogram_params import ExifTags, SpectrogramParams
from riffusion.util.errors import UserError, own_failure
from riffusion.util.files import make_folder
from riffusion.util.flags import Help, torch_device
from riffusion.util.names import distinct
from riffusion.util.runtime import run_script, telling_what_is_kept
from riffusion.util.tables import counted

AUDIO_TO_IMAGE = """Draw a sound as Riffusion's picture.

Any file that libsndfile or ffmpeg reads, of any length, sample rate and number of channels. It is resampled to 44.1 kHz
and its channels are averaged; --stereo draws left in green and right in blue. The loudest pixel is black, and how loud
that is goes into the picture's tags with all settings, so that image-to-audio needs none of them.

Of several files, patterns and folders each gets its picture in the folder --image, under its own name. A file that
fails is named at the end, and the exit code is 2; the others are drawn.
"""

IMAGE_TO_AUDIO = """Render a spectrogram image as audio.

Settings are read from the picture's EXIF tags; without any they are Riffusion V1's. A flag overrides its tag.
The level is the recording's if the tags tell it and it fits: a sound beyond full scale, as Riffusion's own tags make
it, is scaled to a peak of 0 dBFS, and one of unknown level to a peak of -1 dBFS. On one core it takes about as long as
the sound lasts, and half a GB of memory a minute of it.

Of several pictures, patterns and folders each gets its sound in the folder --audio, as a wav file under its own name. A
picture that fails is named at the end, and the exit code is 2; the others are rendered.
"""

PRINT_EXIF = """Print the tags with which Riffusion's pictures say how they were drawn.

One line a tag. A picture without any is read with Riffusion V1's settings.
"""

PARAM_HELP = {
    "step_size_ms": "milliseconds from one column of pixels to the next",
    "num_frequencies": "mel bands, the picture's height",
    "min_frequency": "lowest frequency shown, in Hz",
    "max_frequency": "highest frequency shown, in Hz",
    "window_duration_ms": "analysis window of a column in milliseconds",
    "padded_duration_ms": "the same with zero padding, which resolves low bands better",
    "power_for_image": "grey level is the amplitude to this power",
}

LIMITS = {  # of what makes sense, and what memory and file formats can take
    "sample_rate": (1000, 192000),
    "step_size_ms": (1, 1000),
    "window_duration_ms": (2, 2000),
    "padded_duration_ms": (2, 10000),
    "num_frequencies": (2, 4096),
    "min_frequency": (0, 96000),
    "max_frequency": (1, 96000),
    "power_for_image": (0.01, 10),
    "num_griffin_lim_iters": (1, 10000),
}
FILTER_CELLS = 100_000_000  # bands times samples of a padded frame: the filters then take about 2 GB to make
MAX_VALUE_LIMIT = 1e12  # a sine at full scale is about 1e8 on Riffusion's int16 scale

PICTURE_ENDINGS = (".png",)
SOUND_ENDINGS = (".wav", ".flac", ".ogg")
UNKNOWN_LEVEL_PEAK = 10 ** (-1 / 20)  # -1 dBFS


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(prog="python -m riffusion", description=__doc__, formatter_class=Help)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    draw = commands.add_parser(
        "audio-to-image", help="draw audio as an image", description=AUDIO_TO_IMAGE, formatter_class=Help
    )
    add = draw.add_argument
    sounds = "sounds to read: wav, flac, mp3, ogg, m4a, a video, ...; several, patterns and folders too"
    add("--audio", nargs="+", metavar="FILE", required=True, help=sounds)
    add("--image", type=Path, required=True, help="picture to write: .png; of several sounds, the folder")
    add_param_flags(draw, "default: {}")
    play = commands.add_parser(
        "image-to-audio", help="render an image as audio", description=IMAGE_TO_AUDIO, formatter_class=Help
    )
    add = play.add_argument
    pictures = "pictures to read: PNG, JPEG, ...; several, patterns and folders too"
    add("--image", nargs="+", metavar="FILE", required=True, help=pictures)
    several = "of several pictures, the folder"
    add("--audio", type=Path, required=True, help=f"sound to write: .wav and .flac of 16 bits, or .ogg; {several}")
    iterations = SpectrogramParams.num_griffin_lim_iters
    add(
        "--num-griffin-lim-iters",
        "--num_griffin_lim_iters",
        type=int,
        metavar="N",
        help=f"iterations of Griffin-Lim: more take longer and come nearer to the picture (default: {iterations})",
    )
    add_param_flags(play, "default: the picture's, else {}")
    tell = commands.add_parser("print-exif", help="print an image's tags", description=PRINT_EXIF, formatter_class=Help)
    tell.add_argument("--image", nargs="+", metavar="FILE", required=True, help=pictures)
    return parser.parse_args(argv)


def add_param_flags(parser: argparse.ArgumentParser, default_text: str) -> None:
    """Riffusion's settings, spelt with dashes or underscores, and the device. A setting not given is None."""
    add = parser.add_argument
    add(
        "--stereo",
        action=argparse.BooleanOptionalAction,
        help=f"two channels, left in green and right in blue ({default_text.format('mono')})",
    )
    for name, text in PARAM_HELP.items():
        default = getattr(SpectrogramParams, name)
        spellings = (f"--{name.replace('_', '-')}", f"--{name}")
        add(*spellings, type=type(default), metavar="N", help=f"{text} ({default_text.format(default)})")
    add("--device", type=torch_device, default="cpu", help="torch device for the transforms (default: cpu)")


def main(args: argparse.Namespace) -> int:
    """Run a command; returns the exit code."""
    names = [field.name for field in dataclasses.fields(SpectrogramParams)]
    flags = {name: getattr(args, name, None) for name in names}
    given = {name: value for name, value in flags.items() if value is not None}
    if args.command == "print-exif":
        return convert_all(lambda picture, _: exif_lines(picture, len(args.image) > 1), find_files(args.image, True))
    draws = args.command == "audio-to-image"
    sources, target = (args.audio, args.image) if draws else (args.image, args.audio)
    convert = audio_to_image if draws else image_to_audio

    def work(source: Path, written: Path) -> list[str]:
        return convert(source, written, given, args.device)

    if is_one_file(sources):
        print("\n".join(work(Path(sources[0]), target)))
        return 0
    if target.suffix.lower() in (*PICTURE_ENDINGS, *SOUND_ENDINGS) and not target.is_dir():
        raise UserError(f"{target}: is the name of one file; of several files a folder is written")
    found = find_files(sources, not draws)
    return convert_all(work, found, names_in(target, found, PICTURE_ENDINGS[0] if draws else SOUND_ENDINGS[0]))


def is_one_file(given: Sequence[str]) -> bool:
    """Whether a single file is meant, there or not: no folder and no pattern."""
    return len(given) == 1 and not Path(given[0]).is_dir() and (Path(given[0]).exists() or not glob.has_magic(given[0]))


def find_files(given: Sequence[str], are_pictures: bool) -> list[Path]:
    """The pictures or sounds that files, patterns and folders mean, each once. Raises UserError if one means none."""
    from riffusion.painting.inputs import find_inputs, find_pictures

    found = find_pictures(given) if are_pictures else find_inputs(list(given), in_stems=False)
    return list({path.resolve(): path for path in found}.values())


def names_in(folder: Path, sources: Sequence[Path], ending: str) -> list[Path]:
    """A file in a folder for each source, with its name; where several have one name, the later ones get a number."""
    from riffusion.pairs.stems import without_ending

    written = [folder / f"{name}{ending}" for name in distinct([without_ending(source) for source in sources])]
    for source, target in zip(sources, written, strict=True):
        if target.stem != without_ending(source):
            print(f"{source}: will be {target.name}, because there is another one of its name", file=sys.stderr)
    return written


def convert_all(
    work: Callable[[Path, Path], list[str]], sources: Sequence[Path], written: Sequence[Path] | None = None
) -> int:
    """Let `work` make a file of each source, and print the lines that it returns; returns the exit code.

    What fails is told at the end. Without `written` nothing is written, and no progress shown.
    """
    failures: dict[str, str] = {}
    progress = tqdm(total=len(sources), unit="file", disable=written is None)
    done: list[Path] = []
    with progress, telling_what_is_kept(lambda: f"{len(done)} of {counted(len(sources), 'file')} done"):
        for source, target in zip(sources, written or sources, strict=True):
            progress.set_postfix_str(source.name)
            with own_failure(str(source), failures):
                for line in work(source, target):
                    tqdm.write(line)
            done.append(source)
            progress.update()
    for reason in failures.values():
        print(f"error: {reason}", file=sys.stderr)
    return 2 if failures else 0


def exif_lines(picture: Path, has_heading: bool) -> list[str]:
    """A picture's tags as lines, under its name if there are several pictures. Raises UserError if it has none."""
    exif = load_picture(picture).getexif()
    lines = [f"{tag.name:<20} = {exif[tag]!s:>15}" for tag in ExifTags if tag in exif]
    if not lines:
        raise UserError(f"{picture}: has no tags of Riffusion's")
    return [f"{picture}:", *lines, ""] if has_heading else lines


def audio_to_image(audio: Path, picture: Path, given: dict[str, Any], device: str) -> list[str]:
    """Write the picture of a sound file; returns what to say of it. `given` are params other than the defaults."""
    from riffusion.image import SpectrogramImageConverter, save_png

    require_ending(picture, PICTURE_ENDINGS, "pictures are lossless: JPEG would cost 1.1 dB")
    params = SpectrogramParams(**given)
    check_params(params)
    waveform = load_channels(audio, params)
    require_writable(picture)
    image = SpectrogramImageConverter(params, device).spectrogram_image_from_audio(waveform)
    save_png(image, picture)
    return [f"{picture}: {image.width} x {image.height} pixels, {waveform.shape[1] / params.sample_rate:.2f} s"]


def image_to_audio(picture: Path, audio: Path, given: dict[str, Any], device: str) -> list[str]:
    """Write the sound of a picture; returns what to say of it. `given` are params that take the place of its tags."""
    require_ending(audio, SOUND_ENDINGS, "other formats are made from one of these")
    image = load_picture(picture)
    tags = read_tags(picture, image, given)
    params = dataclasses.replace(SpectrogramParams.from_exif(tags), **given)
    require_writable(audio)
    try:
        check_params(params)
        require_height(image, params, tags, given)
        waveform, level_note = sound_of(image, params, tags.get(ExifTags.MAX_VALUE, 0.0), device)
    except UserError as error:
        raise UserError(f"{picture}: {error}") from error
    tags_note = "" if tags else "has no tags of Riffusion's, so V1's settings are taken"
    notes = [f"{picture}: {'; '.join(filter(None, (tags_note, level_note)))}"] if tags_note or level_note else []
    save_wav(audio, waveform, params.sample_rate)
    return [*notes, f"{audio}: {waveform.shape[1] / params.sample_rate:.2f} s at {params.sample_rate} Hz"]


def require_ending(path: Path, endings: Sequence[str], reason: str) -> None:
    """Refuse an output file whose name doesn't end in one of these."""
    if path.suffix.lower() not in endings:
        raise UserError(f"{path}: its name must end in {' or '.join(endings)} ({reason})")


def require_writable(path: Path) -> None:
    """Make the output file's folder, and refuse before any work a place that can't be written to."""
    make_folder(path.parent)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{path}: can't write this file ({'it is a folder' if path.is_dir() else 'no permission'})")


def check_params(params: SpectrogramParams) -> None:
    """Raises UserError on values that make no spectrogram, or one that is too large."""
    from riffusion.spectrogram import mel_filters

    p = params
    for name, (least, most) in LIMITS.items():
        value = getattr(p, name)
        if not least <= value <= most:  # NaN too
            raise UserError(f"{name} is {value:g}, but must be from {least} to {most}")
    if not p.min_frequency < p.max_frequency <= p.sample_rate / 2:
        limits = f"min_frequency {p.min_frequency} and max_frequency {p.max_frequency}"
        raise UserError(f"{limits}: min must be below max, and max at most {p.sample_rate // 2}, half the sample rate")
    if not 2 * p.step_size_ms <= p.window_duration_ms <= p.padded_duration_ms:
        durations = f"window_duration_ms is {p.window_duration_ms}, but must be at least twice step_size_ms"
        raise UserError(f"{durations} ({p.step_size_ms}) and at most padded_duration_ms ({p.padded_duration_ms})")
    if p.num_frequencies * p.n_fft > FILTER_CELLS:
        raise UserError(f"num_frequencies {p.num_frequencies} by padded_duration_ms {p.padded_duration_ms} is too fine")
    deaf = int((~mel_filters(p).any(axis=1)).sum())
    if deaf:
        advice = "take fewer, or more padded_duration_ms"
        raise UserError(f"num_frequencies {p.num_frequencies} is too fine: {deaf} bands contain no FFT bin; {advice}")


def load_channels(path: Path, params: SpectrogramParams) -> np.ndarray:
    """What a picture with these params shows of a sound file: float32 (1 or 2, samples) at their sample rate."""
    waveform, _ = load_audio(path, params.sample_rate)
    if not params.stereo:
        return waveform.mean(axis=0, keepdims=True)
    if len(waveform) > 2:
        raise UserError(f"{path}: has {len(waveform)} channels, and a stereo picture shows two; leave out --stereo")
    return np.broadcast_to(waveform, (2, waveform.shape[1])).copy()


def load_picture(path: Path) -> Image.Image:
    """A picture and its tags, read whole. Raises UserError if it can't be."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with warnings.catch_warnings(action="ignore"):  # of size and small damage: an error says what matters
            image = Image.open(path)
            image.load()
            image.getexif()
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: has more pixels than an hour of sound") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise UserError(f"{path}: not a readable picture, or a damaged one") from error
    return image


def read_tags(path: Path, image: Image.Image, given: dict[str, Any]) -> dict[int, float]:
    """The EXIF tags of Riffusion's in a picture, but for those of params that are `given`.

    Raises UserError if one isn't a finite number, or not a whole one where it has to be.
    """
    tags: dict[int, float] = {}
    exif = image.getexif()
    for tag in ExifTags:
        name = tag.name.lower()
        if tag not in exif or name in given:
            continue
        value, whole = exif[tag], isinstance(getattr(SpectrogramParams, name, None), int)
        if not isinstance(value, numbers.Real) or not math.isfinite(value) or (whole and value % 1):
            kind = "whole number" if whole else "number"
            raise UserError(f"{path}: EXIF tag {tag} ({name}) is {value!r:.40}, not a {kind}")
        tags[tag] = float(value)
    if not 0 <= tags.get(ExifTags.MAX_VALUE, 0) <= MAX_VALUE_LIMIT:
        value = tags[ExifTags.MAX_VALUE]
        raise UserError(f"{path}: EXIF tag {ExifTags.MAX_VALUE} (max_value) is {value:g}, not an amplitude")
    return tags


def require_height(
    image: Image.Image, params: SpectrogramParams, tags: dict[int, float], given: dict[str, Any]
) -> None:
    """Refuse a picture that isn't as high as its params have bands, and say which flag may help."""
    if image.height == params.num_frequencies:
        return
    if "num_frequencies" in given:
        raise UserError(f"is {image.height} pixels high, but --num-frequencies is {params.num_frequencies}")
    source = "its tags say there are" if ExifTags.NUM_FREQUENCIES in tags else "by default there are"
    advice = f"if it was drawn with {image.height}, pass --num-frequencies {image.height}"
    raise UserError(f"is {image.height} pixels high, but {source} {params.num_frequencies} bands; {advice}")


def sound_of(image: Image.Image, params: SpectrogramParams, max_value: float, device: str) -> tuple[np.ndarray, str]:
    """A picture's sound, float32 (channels, samples) in [-1, 1], and what was done to its level if anything was.

    A `max_value` of 0 is an unknown one, or silence.
    """
    from riffusion.image import SpectrogramImageConverter

    converter = SpectrogramImageConverter(params, device)
    waveform = converter.audio_from_spectrogram_image(image, max_value or 1.0)
    peak = float(np.abs(waveform).max())
    if max_value == 0 and peak > 0:
        return waveform * (UNKNOWN_LEVEL_PEAK / peak), "its level is unknown: scaled to a peak of -1 dBFS"
    return waveform, "beyond full scale: scaled to a peak of 0 dBFS" if peak > 1 - 1e-6 else ""


if __name__ == "__main__":
    run_script(main, parse_args())
