"""The sounds of results: where they lie, how loud they are, and all of them as one file."""

import shutil
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import soundfile

from riffusion.painting.loudness import loudness_db
from riffusion.painting.result import Result, Track
from riffusion.util.disk_space import writing
from riffusion.util.files import whole_file


def sound_address(result: Result, track: Track) -> str:
    """Where a sound lies, seen from the page of its result."""
    return f"{result.name}/{track.sound}"


def sound_files(folder: Path, results: Sequence[Result]) -> list[Path]:
    """All sounds of the results in a folder that are there."""
    paths = [folder / sound_address(result, track) for result in results for track in result.tracks]
    return [path for path in paths if path.is_file()]


def loudness_of(folder: Path, results: Sequence[Result]) -> dict[str, float]:
    """Loudness in dB of the sounds of the results in a folder, by address, where something was to be painted.

    What libsndfile can't read is left out.
    """
    levels = {}
    for result in results:
        region = result.settings.get("start") or 0.0, result.settings.get("end")
        for track in result.tracks:
            with suppress(soundfile.LibsndfileError, OSError):
                levels[sound_address(result, track)] = loudness_db(folder / result.name / track.sound, *region)
    return levels


def write_archive(path: Path, sounds: Sequence[Path]) -> None:
    """Write sounds into a zip file in the folder above theirs, as they are. Raises UserError if there is no room.

    It holds no times, so that the same sounds give the same file.
    """
    with (
        writing(path, sum(sound.stat().st_size for sound in sounds)),
        whole_file(path) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive,
    ):
        for sound in sounds:
            member = zipfile.ZipInfo(sound.relative_to(path.parent).as_posix())
            with sound.open("rb") as content, archive.open(member, "w", force_zip64=True) as copy:
                shutil.copyfileobj(content, copy)
