"""Songs that somebody gives to be painted into: files, patterns, folders and standard input."""

import glob
import hashlib
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from riffusion import audio, report, stems
from riffusion.downmix import Downmix, Survey
from riffusion.errors import UserError

STDIN = "-"
MOST_BYTES = 200  # of a folder's name: file systems take 255
AUDIO_SUFFIXES = (*(f".{name}" for name in audio.FORMATS), ".m4a", ".mp4", ".aac", ".opus", ".aif", ".aiff", ".wma")


@dataclass(frozen=True)
class InputSong:
    """A song to paint into: a file that can be read again, as long as the painting takes."""

    name: str
    path: Path
    sha256: str
    rate: int
    channels: int
    samples: int
    bits: int
    tags: dict[str, str]
    clipped: int  # samples beyond full scale in a file of floats, which integers can't hold
    downmix: Downmix = field(compare=False)  # what a model is shown of its channels

    @property
    def title(self) -> str:
        """Its heading."""
        return self.name

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples / self.rate


def find_songs(given: list[str], in_stems: bool) -> list[Path]:
    """The files that are meant by file names, patterns such as *.mp3 and folders; standard input stays "-".

    With `in_stems` they are songs in stems: `.stem.mp4` files and folders of stems, or folders that hold such songs.
    Raises UserError if a pattern or a folder comes to nothing; that a file is missing is found out by opening it.
    """
    found = []
    for text in given:
        path = Path(text)
        matches = [] if path.exists() or text == STDIN else sorted(map(Path, glob.glob(text, recursive=True)))  # noqa: PTH207
        if not matches and glob.has_magic(text) and not path.exists():
            raise UserError(f"{text}: no file matches")
        for match in matches or [path]:
            found += songs_in_folder(match, in_stems) if match.is_dir() else [match]
    return found


def songs_in_folder(folder: Path, in_stems: bool) -> list[Path]:
    """The songs that lie in a folder; the folder itself if it holds stems. Raises UserError if there is none."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()]
    if in_stems:
        is_song = any(not path.name.endswith(stems.STEM_MP4) for path in files)
        return [folder] if is_song else [song.path for song in stems.find_songs(folder)]
    if not files:
        raise UserError(f"{folder}: holds no audio file; a song in stems needs --without_stem")
    return files


def read_song(path: Path, name: str | None, without_stem: str | None, bits: int | None, scratch: Path) -> InputSong:
    """Look through an audio file, through standard input, or through the sum of a song's stems without one of them.

    The latter two are first made into files in `scratch`. Its name is the file's unless `name` says so. Raises
    UserError if it can't be read to its end, is empty, isn't finite or is beyond all scale.
    """
    source, own_name, sha256 = path, path.name if path.name not in ("", "..") else path.resolve().name, None
    if str(path) == STDIN:
        source, own_name = scratch / "stdin", "stdin"
        with source.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    elif path.is_file():
        own_name = own_name.removesuffix(stems.STEM_MP4).removesuffix(path.suffix)
    if without_stem is not None:
        if path.is_file() and not path.name.endswith(stems.STEM_MP4):
            raise UserError(f"{path}: --without_stem needs a song in stems, {stems.STEM_MP4} or a folder of stems")
        backing = stems.sum_stems(stems.load_stems(stems.Song(path.name, path)), without=without_stem)
        source, bits = report.make_folder(scratch / "backings") / f"{own_name}.wav", bits or 16
        soundfile.write(source, backing.T, 44100, subtype="FLOAT")
        sha256 = hashlib.sha256(backing.tobytes()).hexdigest()  # the file has the time in it
    samples = clipped = 0
    with audio.open_audio(source) as file:
        survey = Survey()
        for block in file.blocks(audio.BLOCK_SAMPLES, dtype="float32", always_2d=True):
            audio.check_audio(block, path)
            survey.add(block.T, file.samplerate)
            samples += len(block)
            clipped += int(np.count_nonzero(np.abs(block) > 1))
        if not samples:
            raise UserError(f"{path}: holds no samples")
        return InputSong(
            name=folder_name(name or own_name),
            path=source,
            sha256=sha256 or file_digest(source),
            rate=file.samplerate,
            channels=file.channels,
            samples=samples,
            bits=bits or audio.file_bits(source),
            tags=audio.read_tags(file),
            clipped=clipped,
            downmix=survey.finish(path),
        )


def folder_name(text: str) -> str:
    """A text as the name of a folder, with what no file system takes left out, and not too long for one."""
    printable = re.sub(r"[\x00-\x1f/\\]", "-", text.encode("utf-8", "replace").decode())
    return printable.encode()[:MOST_BYTES].decode(errors="ignore").strip()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
