"""What a list of edits asks for, song by song: every row is looked at before the first one is painted."""

from dataclasses import dataclass, replace
from pathlib import Path

from riffusion.painting import results
from riffusion.painting.edits import EditRow, read_edits
from riffusion.painting.inputs import InputSong, check_fits, find_inputs, keep_decoded, open_input
from riffusion.painting.jobs import Request, SongJob, named_after
from riffusion.painting.options import PaintOptions
from riffusion.spectrogram import SpectrogramParams
from riffusion.util.errors import UserError, own_failure
from riffusion.util.names import distinct


@dataclass(frozen=True)
class OpenedRow:
    """A row and its song; `title` is what the song is called, whatever the row's name is.

    What is painted into another row's result has the song of that row, which is as long and in the same format.
    """

    row: EditRow
    song: InputSong
    title: str

    @property
    def prompt(self) -> str:
        """Its one instruction."""
        (prompt,) = self.row.options.prompt or ("",)
        return prompt


def edit_requests(
    options: PaintOptions, params: SpectrogramParams, scratch: Path, failures: dict[str, str]
) -> list[Request[InputSong]]:
    """The rows of the list that `options` name, as far as they are good; what is wrong with others is a failure.

    Folders have the rows' names, else the song's with the instruction. Raises UserError if there is no such list.
    """
    opened = open_rows(read_edits(options, failures), params, scratch, failures)
    given = [one.row.name for one in opened if one.row.name is not None]
    others = [named_after(one.title, one.prompt) for one in opened if one.row.name is None]
    unnamed = iter(distinct([*given, *others])[len(given) :])
    requests = []
    for one in opened:
        asked, base = one.row.options, options.base_save_path
        scales = asked.guidance_grid()[0]
        folder = base / (one.row.name or next(unnamed))
        onto = None if one.row.onto is None else base / one.row.onto
        requests.append(Request(one.song, one.prompt, scales, folder, asked, one.title, one.row.place, onto))
    return requests


def open_rows(
    rows: list[EditRow], params: SpectrogramParams, scratch: Path, failures: dict[str, str]
) -> list[OpenedRow]:
    """The rows whose song can be painted into as they say; what is wrong with each other one is among the failures.

    A row onto one that is bad itself is left out. Every song is read once.
    """
    songs: dict[tuple[Path, str | None], InputSong] = {}
    named: dict[str, OpenedRow] = {}
    opened = []
    for row in rows:
        with own_failure(row.place, failures):
            if row.onto is None:
                song = open_once(row, params, scratch, songs)
                one = OpenedRow(row, replace(song, name=row.name or song.name), song.name)
            elif row.onto not in named:
                continue
            else:
                below = named[row.onto]
                check_fits(below.song, Path(row.onto), params, row.options)
                one = OpenedRow(row, replace(below.song, name=row.name or below.title), below.title)
            opened.append(one)
            if row.name is not None:
                named[row.name] = one
    return opened


def open_once(
    row: EditRow, params: SpectrogramParams, scratch: Path, songs: dict[tuple[Path, str | None], InputSong]
) -> InputSong:
    """The song of a row, called after its file; `songs` are those read before. Raises UserError if it can't be."""
    options = replace(row.options, name=None)
    found = find_inputs(list(options.audio or ()), in_stems=options.without_stem is not None, quiet=True)
    if len(found) != 1:
        raise UserError(f"{row.place}: audio stands for {len(found)} songs, where a row is about one")
    which = found[0], options.without_stem
    if which in songs:
        check_fits(songs[which], found[0], params, options)
        return songs[which]
    song = open_input(found[0], params, scratch, options)
    keep_decoded(songs.values())
    songs[which] = song
    return song


def with_result_below(job: SongJob, params: SpectrogramParams, scratch: Path) -> SongJob:
    """A job that is painted into another one's result, now that it is there: with what was painted for its song.

    Raises UserError if it isn't there after all.
    """
    assert job.onto is not None
    if results.read_result(job.onto) is None:
        raise UserError(f"{job.onto} was not painted, into which this was to be painted")
    path = job.onto / f"painted.{job.options.format}"
    options = replace(job.options, name=job.song.name, bits=job.song.bits)
    song = open_input(path, params, scratch, options)
    return replace(job, song=song, recorded=job.recorded | {"input_sha256": song.sha256})
