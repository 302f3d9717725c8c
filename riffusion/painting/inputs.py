"""Songs that somebody gives to be painted into: files, patterns, folders and standard input."""

import glob
import hashlib
import itertools
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from riffusion import audio
from riffusion.painting.options import PICTURES, STDIN, PaintOptions
from riffusion.pairs import stems
from riffusion.recordings.downmix import Downmix, Survey
from riffusion.recordings.recording import Recording, copy_stream, open_recording
from riffusion.spectrogram import SpectrogramParams
from riffusion.util import files
from riffusion.util.disk_space import free_bytes
from riffusion.util.errors import UserError
from riffusion.util.names import safe_name

MOST_NAMES = 5  # of skipped files that are printed
SHORTEST_REGION_SECONDS = 0.1  # that can be painted
SHORTEST_SONG_SECONDS = 1.0  # a song that is shorter than a clip is followed by silence
SILENT_POWER = 1e-14  # mean square below which no format holds anything
LEAST_OVER_LAST_BIT_DB = 20.0  # level of a song over its format's last bit, so that a softer part can still be heard
DECODED_SHARE = 0.2  # of what the disk has left: so much may songs take that wait, decoded
WAV_BYTES = 2**32  # that a wav file's header can count


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
    def seconds(self) -> float:
        """Length of the song in seconds."""
        return self.samples / self.rate


def find_inputs(given: list[str], in_stems: bool, quiet: bool = False) -> list[Path]:
    """The files that are meant by file names, patterns such as *.mp3 and folders; standard input stays "-".

    With `in_stems` they are songs in stems: `.stem.mp4` files and folders of stems, or folders that hold such songs.
    What is skipped in a folder is printed on stderr, unless `quiet`. Raises UserError if a pattern or a folder comes
    to nothing; that a file is missing is found out by opening it.
    """
    found = []
    for text in given:
        matches = [Path(text)] if text == STDIN or os.path.lexists(text) else matching(text)
        for match in matches:
            is_folder = os.path.isdir(match)  # noqa: PTH112 (a name that is too long is no folder, and no error)
            found += songs_in_folder(match, in_stems, quiet) if is_folder else [match]
    return found


def find_pictures(given: Sequence[str]) -> list[Path]:
    """The pictures that are meant by file names, patterns and folders. Raises UserError if one comes to nothing."""
    found: list[Path] = []
    meant = ([Path(text)] if os.path.lexists(text) else matching(text) for text in given)
    for path in itertools.chain.from_iterable(meant):
        inside = sorted(one for one in path.iterdir() if one.suffix.lower() in PICTURES) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path}: contains no picture ({', '.join(PICTURES)})")
        found += inside
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
    paths, skipped = stems.sound_files(folder)
    if in_stems and any(not stems.is_in_stems(path) for path in paths):
        return [folder]
    if in_stems:
        songs, skipped = stems.list_songs(folder)
        paths = [song.path for song in songs]
    if skipped and not quiet:
        print(f"skipped in {folder}: {in_words(skipped)}", file=sys.stderr)
    if not paths:
        raise UserError(f"{folder}: contains no audio file; a song in stems needs --without_stem")
    return paths


def in_words(skipped: dict[str, str]) -> str:
    """What was skipped and why, on one line: the first few names."""
    shown = [f"{name} ({reason})" for name, reason in list(skipped.items())[:MOST_NAMES]]
    more = len(skipped) - len(shown)
    return ", ".join(shown) + f" and {more} more" * bool(more)


def open_input(path: Path, params: SpectrogramParams, scratch: Path, options: PaintOptions) -> InputSong:
    """A song that has been read once and can be painted into as the options say.

    What libsndfile can't read directly is decoded into `scratch`. Raises UserError if the song can't be read, can't be
    painted into like that, or if its result can't be written.
    """
    song = read_song(path, options.name, options.without_stem, options.bits, scratch)
    check_fits(song, path, params, options)
    tags = writable_tags(song, path, options.format, scratch)
    if lost := ", ".join(name for name in song.tags if name not in tags):
        print(f"warning: {path}: a {options.format} file can't hold its {lost} unchanged; left out", file=sys.stderr)
    audio.tell_faults(song.recording)
    return replace(song, tags=tags)


def keep_decoded(songs: Iterable[InputSong]) -> None:
    """Let what songs were decoded into stay until they are painted, unless it is too much for the disk."""
    recordings = [song.recording for song in songs]
    taken = sum(recording.decoded_bytes for recording in recordings)
    if taken and taken > DECODED_SHARE * (free_bytes(recordings[-1].file) or 0):
        for recording in recordings:
            recording.release()


def check_fits(song: InputSong, path: Path, params: SpectrogramParams, options: PaintOptions) -> None:
    """Raise UserError if the options can't be meant for this song."""
    shortest = min(SHORTEST_SONG_SECONDS, params.clip_seconds)
    if song.seconds < shortest:
        raise UserError(f"{path}: {song.seconds:.3f} s is too short, less than {shortest:g} s")
    if options.start >= song.seconds:
        raise UserError(f"{path}: --start {options.start} is beyond its end, {song.seconds:.3f} s")
    if min(options.end or math.inf, song.seconds) - options.start < SHORTEST_REGION_SECONDS:
        raise UserError(f"{path}: from --start to --end there is less than {SHORTEST_REGION_SECONDS} s to paint")
    if options.pan and song.channels != 2:
        channels = "is mono" if song.channels == 1 else f"has {song.channels} channels"
        raise UserError(f"{path}: --pan needs a stereo song, and this one {channels}")
    if options.format == "wav" and song.samples * song.channels * song.bits // 8 >= WAV_BYTES:
        raise UserError(f"{path}: is longer than a wav file can be: pass --format flac")


def writable_tags(song: InputSong, path: Path, ending: str, scratch: Path) -> dict[str, str]:
    """The song's tags that a result of this format can hold. Raises UserError if it can't hold the song itself."""
    trial = files.make_folder(scratch / "trial") / f"{song.name}.{ending}"
    try:
        tags = audio.carried_tags(song.tags, trial, song.rate, song.channels, song.bits)
    except UserError as error:  # which names the trial's temporary file
        if isinstance(error.__cause__, OSError):  # there is no room for it
            raise
        raise UserError(f"{path}: the result {str(error).removeprefix(f'{trial}: ')}") from error
    trial.unlink()
    return tags


def read_song(path: Path, name: str | None, without_stem: str | None, bits: int | None, scratch: Path) -> InputSong:
    """Read an audio file, standard input, or the sum of a song's stems without one of them, from beginning to end.

    What libsndfile can't read directly is decoded into `scratch`. Without a `name` the song has its file's. Raises
    UserError if it can't be read to its end, is empty, isn't finite or is beyond all scale.
    """
    if str(path) == STDIN:
        recording = open_stdin(scratch)
    elif without_stem is None:
        recording = open_recording(path, scratch, name=path, decode_once=True)
    else:
        recording = open_stems(path, without_stem, scratch)
    clipped, survey = 0, Survey()
    for block in recording.blocks():
        audio.check_audio(block, path, most=np.inf)  # the survey says more of samples that are too large
        survey.add(block, recording.rate)
        clipped += int(np.count_nonzero(np.abs(block) > 1))
    if not recording.samples:
        raise UserError(f"{path}: contains no samples")
    return InputSong(
        name=safe_name(name or file_name(path)),
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


def open_stdin(scratch: Path) -> Recording:
    """A recording of what standard input holds. Raises UserError if it is closed or can't be read."""
    if sys.stdin is None:
        raise UserError(f"{STDIN}: standard input is closed")
    return open_recording(
        copy_stream(sys.stdin.buffer, scratch, Path(STDIN)), scratch, name=Path(STDIN), decode_once=True
    )


def open_stems(path: Path, without_stem: str, scratch: Path) -> Recording:
    """The sum of a song's stems without one of them. Raises UserError if the song isn't in stems or lacks that one."""
    if path.is_file() and not stems.is_in_stems(path):
        needed = f"--without_stem needs a song in stems, {stems.STEM_MP4} or a folder of stems"
        raise UserError(f"{path}: {needed}; {stems.how_to_separate(path)}")
    return stems.open_backing(stems.Song(path.name, path), without_stem, scratch)


def file_name(path: Path) -> str:
    """What a song is called after the file or folder that it comes from."""
    if str(path) == STDIN:
        return "stdin"
    if path.is_file():
        return stems.without_ending(path)
    return path.name if path.name not in ("", "..") else path.resolve().name


def level_warnings(song: InputSong) -> list[str]:
    """What is odd about a song's level and channels, each in words."""
    level = 10 * math.log10(max(song.downmix.power, SILENT_POWER))
    warnings = []
    if song.downmix.power <= SILENT_POWER:
        warnings.append("is silent: a part painted to match it will be silent too")
    elif level < 20 * math.log10(2.0 ** (1 - song.bits)) + LEAST_OVER_LAST_BIT_DB:
        warnings.append(f"at {level:.0f} dBFS its {song.bits} bits leave hardly any for a new part: pass more --bits")
    if song.downmix.cancels:
        warnings.append("its channels cancel each other: the model gets a downmix in which they don't")
    if song.downmix.lifted:
        warnings.append("has an inaudible offset or rumble: the model gets the song without it")
    return warnings


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
