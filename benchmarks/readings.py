"""What our scripts make of recordings and of folders of pairs, and what ffmpeg hears in a recording."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import odd_files
import odd_pairs
import soundfile
from PIL import Image
from whole_songs import load_stems

import inference_instruct_pix2pix as inference
import preprocess_musdb
import upload_musdb
from riffusion import __main__ as pictures
from riffusion.painting.inputs import open_input
from riffusion.painting.options import PaintOptions
from riffusion.painting.run import open_items
from riffusion.pairs import stems
from riffusion.pairs.dataset import read_pair_picture
from riffusion.pairs.dataset_check import open_pairs
from riffusion.recordings import ffmpeg
from riffusion.spectrogram import SpectrogramParams
from riffusion.util.runtime import run_script

Args = TypeVar("Args")

FRAME_SECONDS = 0.1  # of which loudness is compared
MOST_BYTES = 256 << 20  # of sound that the referee decodes
Way = Callable[[Path, Path, str], tuple[int, object]]  # input, folder of the case and model to code and reading


@dataclass
class Sound:
    """How long a recording lasts, and how loud it is in every frame; no loudness where it isn't known."""

    seconds: float
    loudness: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, samples: np.ndarray, rate: int) -> "Sound":
        """Of samples (channels, samples)."""
        power = np.square(np.clip(np.nan_to_num(samples), -1, 1)).mean(axis=0)
        starts = np.arange(0, len(power), max(1, round(FRAME_SECONDS * rate)))
        sums = np.add.reduceat(power, starts) if len(power) else power
        return cls(len(power) / rate, np.sqrt(sums / np.diff([*starts, len(power)])).round(4).tolist())


def put(odd: odd_files.OddFile, kind: str, way: str, sources: Path, folder: Path) -> Path:
    """Write a recording, where a song in stems is asked for as one of them, beside a good song."""
    if way not in ("stems", "backing"):
        (folder / (odd.name + odd.ending)).write_bytes(odd.content)
        return folder / (odd.name + odd.ending)
    shutil.copytree(sources / "parts" / "0", folder / "Good")
    if kind == odd_files.STEMS:
        path = folder / (odd.name + ".stem.mp4")
        path.write_bytes(odd.content)
        return path
    song = folder / (odd.name if odd.name != ".." else "two dots")
    shutil.copytree(sources / "parts" / "0", song)
    (song / f"{odd_files.SONG}.wav").unlink()
    (song / f"{odd_files.SONG}{odd.ending}").write_bytes(odd.content)
    return song


def script(run: Callable[[Args], int], parsed: Args) -> int:
    """A script's exit code."""
    try:
        run_script(run, parsed)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)


def painting_flags(place: Path, model_id: str) -> list[str]:
    """The flags that all runs of inference share."""
    flags = ["--model_id", model_id, "--base_save_path", str(place / "out"), "--quiet", "--seed", "0"]
    return [*flags, "--num_inference_steps", "1"]


def look(path: Path, place: Path, model_id: str, *more: str) -> tuple[int, Sound | None]:
    """What inference does with a song before it paints."""
    heard: list[Sound] = []

    def read(options: PaintOptions) -> int:
        with tempfile.TemporaryDirectory() as scratch:
            song = open_input(path, SpectrogramParams(), Path(scratch), options)
            heard.append(Sound.of(np.concatenate(list(song.recording.blocks()), axis=1), song.rate))
        return 0

    flags = ["--audio", str(path), "--prompt", "add a vocal", *painting_flags(place, model_id), *more]
    return script(read, inference.options_of(inference.parse_args(flags))), next(iter(heard), None)


def look_at_backing(path: Path, place: Path, model_id: str) -> tuple[int, Sound | None]:
    """The same with a song in stems: how long is the sum of the others?"""
    code, heard = look(path, place, model_id, "--without_stem", "vocals")
    return code, heard and Sound(heard.seconds)


def paint(path: Path, place: Path, model_id: str) -> tuple[int, Sound | None]:
    """All of inference, by the input that it writes beside the result."""
    flags = ["--audio", str(path), "--prompt", "add a vocal", *painting_flags(place, model_id)]
    code = script(inference.main, inference.parse_args(flags))
    heard = [soundfile.read(file, always_2d=True) for file in (place / "out").glob("*/input.wav")]
    return code, Sound.of(heard[0][0].T, heard[0][1]) if heard else None


def draw(path: Path, place: Path, model_id: str) -> tuple[int, Sound | None]:
    """A picture of it by `python -m riffusion`."""
    (place / "out").mkdir()
    picture = place / "out" / "picture.png"
    code = script(pictures.main, pictures.parse_args(["audio-to-image", "--audio", str(path), "--image", str(picture)]))
    if code != 0:
        (place / "out").rmdir()  # raises if it isn't empty
        return code, None
    return code, Sound((Image.open(picture).width - 1) * SpectrogramParams().step_size_ms / 1000)


def preprocess(path: Path, place: Path, model_id: str) -> tuple[int, Sound | None]:
    """Pairs of it, as a stem of a song beside a good one; and how the stem is read."""
    flags = ["--root_data_dir", str(place / "in"), "--output_dir", str(place / "out"), "--num_proc", "1", "--silence"]
    short = ["--frame_len_seconds", "0.63", "--pairs_per_clip", "1", "--stems", odd_files.SONG]
    code = script(preprocess_musdb.main, preprocess_musdb.parse_args([*flags, *short]))
    if not any((place / "out").glob("Good*/song.json")):
        raise RuntimeError("the good song beside it was lost")
    if code != 0:
        return code, None
    return code, Sound.of(load_stems(stems.Song(path.name, path))[odd_files.SONG], odd_files.RATE)


def open_all(root: Path, place: Path, model_id: str) -> tuple[int, list]:
    """What training reads of pairs."""
    rows: list[list[str]] = []

    def read(name: str) -> int:
        for split in open_pairs(name).values():
            for row, prompt in enumerate(split["edit_prompt"]):
                both = [read_pair_picture(split, row, column) for column in odd_pairs.PICTURES]
                rows.append([*map(odd_pairs.digest, both), prompt])
        return 0

    code = script(read, str(root))
    return code, sorted(rows)


def open_samples(root: Path, place: Path, model_id: str) -> tuple[int, list]:
    """What inference reads of pairs."""
    rows: list[list[str]] = []

    def read(options: PaintOptions) -> int:
        for item in open_items(options, SpectrogramParams(num_frames=64)):
            rows.append([odd_pairs.digest(item.original), odd_pairs.digest(item.truth), item.prompt])
        return 0

    flags = ["--dataset_id", str(root), "--max_samples", "100000", *painting_flags(place, model_id)]
    return script(read, inference.options_of(inference.parse_args(flags))), sorted(rows)


def upload(root: Path, place: Path, model_id: str) -> tuple[int, list]:
    """What is published of pairs."""
    out = place / "out"
    flags = ["--data_root", str(root), "--output_dir", str(out)]
    code = script(upload_musdb.main, upload_musdb.parse_args(flags))
    return code, odd_pairs.read_rows(out)[0] if code == 0 else []


def listen(path: Path, kind: str, way: str) -> tuple[Sound | None, str]:
    """The referee: how a file sounds that ffmpeg decodes, and what it complains of; longer if ffprobe says so."""
    stream = "2" if kind == odd_files.STEMS and way == "stems" else "0"
    entries = "stream=sample_rate,channels,duration:format=duration,nb_streams"
    asked = ["-v", "warning", "-select_streams", f"a:{stream}", "-show_entries", entries, "-of", "json", str(path)]
    probe = subprocess.run([ffmpeg.binaries()[1], *asked], capture_output=True, timeout=60)
    told = json.loads(probe.stdout or "{}")
    if not told.get("streams"):
        return None, "ffprobe finds no sound"
    found = told["streams"][0]
    rate, channels = int(found.get("sample_rate") or 0), int(found.get("channels") or 0)
    asked = [
        "-nostdin",
        "-v",
        "error",
        "-i",
        str(path),
        "-map",
        f"0:a:{stream}",
        "-f",
        "f32le",
        "-fs",
        str(MOST_BYTES),
        "-",
    ]
    decoded = subprocess.run([ffmpeg.binaries()[0], *asked], capture_output=True, timeout=60)
    complaint = decoded.stderr.decode(errors="replace").strip().split("\n")[0]
    if decoded.returncode != 0 or not rate or not channels:
        return None, complaint
    whole = len(decoded.stdout) // (4 * channels) * 4 * channels
    sound = Sound.of(np.frombuffer(decoded.stdout[:whole], "<f4").reshape(-1, channels).T, rate)
    if b"Estimating duration" not in probe.stderr and told["format"].get("nb_streams") == 1:
        sound.seconds = max(sound.seconds, float(found.get("duration") or told["format"].get("duration") or 0))
    return sound, complaint


WAYS: dict[str, dict[str, Way]] = {
    "recordings": {
        "look": look,
        "look again": look,
        "draw": draw,
        "stems": preprocess,
        "backing": look_at_backing,
        "paint": paint,
    },
    "datasets": {"open": open_all, "samples": open_samples, "upload": upload},
}
