"""Songs that somebody gives to be painted into: files, patterns, folders and standard input."""

import glob
import hashlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from riffusion import audio
from riffusion.pairs import stems
from riffusion.recordings.downmix import Downmix, Survey
from riffusion.recordings.recording import Recording, copy_stream, open_recording
from riffusion.util.errors import UserError
from riffusion.util.names import folder_name

STDIN = "-"
MOST_TOLD = 5  # names of files that are passed over


@dataclass(frozen=True)
class InputSong:
    """A song to paint into: a file that can be read again, as long as the painting takes."""

    name: str
    recording: Recording
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


def find_songs(given: list[str], in_stems: bool, quiet: bool = False) -> list[Path]:
    """The files that are meant by file names, patterns such as *.mp3 and folders; standard input stays "-".

    With `in_stems` they are songs in stems: `.stem.mp4` files and folders of stems, or folders that hold such songs.
    What is passed over in a folder is told on stderr, unless `quiet`. Raises UserError if a pattern or a folder comes
    to nothing; that a file is missing is found out by opening it.
    """
    found = []
    for text in given:
        matches = [Path(text)] if text == STDIN or os.path.lexists(text) else matching(text)
        for match in matches:
            is_folder = os.path.isdir(match)  # noqa: PTH112 (a name that is too long is no folder, and no error)
            found += songs_in_folder(match, in_stems, quiet) if is_folder else [match]
    return found


def matching(text: str) -> list[Path]:
    """The files that a pattern means; a folder that is there is meant as it is, brackets or not.

    Raises UserError if there is none. A text without a pattern is a file that is missing.
    """
    if not glob.has_magic(text):
        return [Path(text)]
    there = next((str(folder) for folder in Path(text).parents if folder.is_dir()), "")
    rest = os.path.relpath(text, there)
    matches = sorted(map(Path, glob.glob(os.path.join(glob.escape(there), rest), recursive=True)))  # noqa: PTH118, PTH207
    if not matches:
        raise UserError(f"{text}: no file matches")
    return matches


def songs_in_folder(folder: Path, in_stems: bool, quiet: bool = False) -> list[Path]:
    """The songs that lie in a folder; the folder itself if it holds stems. Raises UserError if there is none."""
    files, passed_over = stems.sound_files(folder)
    if in_stems and any(not stems.is_in_stems(path) for path in files):
        return [folder]
    if in_stems:
        songs, passed_over = stems.list_songs(folder)
        files = [song.path for song in songs]
    if passed_over and not quiet:
        print(f"passed over in {folder}: {told(passed_over)}", file=sys.stderr)
    if not files:
        raise UserError(f"{folder}: holds no audio file; a song in stems needs --without_stem")
    return files


def told(passed_over: dict[str, str]) -> str:
    """What was passed over and why, in a line: the first few names."""
    said = [f"{name} ({reason})" for name, reason in list(passed_over.items())[:MOST_TOLD]]
    more = len(passed_over) - len(said)
    return ", ".join(said) + f" and {more} more" * bool(more)


def read_song(path: Path, name: str | None, without_stem: str | None, bits: int | None, scratch: Path) -> InputSong:
    """Look through an audio file, through standard input, or through the sum of a song's stems without one of them.

    What libsndfile can't read as it is becomes a file in `scratch` first. Its name is the file's unless `name` says so.
    Raises UserError if it can't be read to its end, is empty, isn't finite or is beyond all scale.
    """
    own_name = "stdin" if str(path) == STDIN else path.name if path.name not in ("", "..") else path.resolve().name
    if path.is_file():
        own_name = stems.without_ending(path)
    if str(path) == STDIN and sys.stdin is None:
        raise UserError("-: standard input is closed")
    if without_stem is None:
        source = copy_stream(sys.stdin.buffer, scratch, path) if str(path) == STDIN else path
        recording = open_recording(source, scratch, name=path)
    elif path.is_file() and not stems.is_in_stems(path):
        raise UserError(f"{path}: --without_stem needs a song in stems, {stems.STEM_MP4} or a folder of stems")
    else:
        recording = stems.open_backing(stems.Song(path.name, path), without_stem, scratch)
    clipped, survey = 0, Survey()
    for block in recording.blocks():
        audio.check_audio(block, path, most=np.inf)  # the survey says more of samples that are too large
        survey.add(block, recording.rate)
        clipped += int(np.count_nonzero(np.abs(block) > 1))
    if not recording.samples:
        raise UserError(f"{path}: holds no samples")
    return InputSong(
        name=folder_name(name or own_name),
        recording=recording,
        sha256=sound_digest(recording) if without_stem is not None else file_digest(recording.source),
        rate=recording.rate,
        channels=recording.channels,
        samples=recording.samples,
        bits=bits or recording.bits,
        tags=audio.read_tags(recording),
        clipped=clipped,
        downmix=survey.finish(path),
    )


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sound_digest(recording: Recording) -> str:
    """SHA-256 of a recording's samples, hexadecimal: a wav file of floats that libsndfile wrote has the time in it."""
    digest = hashlib.sha256()
    for block in recording.blocks():
        digest.update(block.T.tobytes())
    return digest.hexdigest()
