"""Folders of results: one per song or dataset item, complete or absent, with a page and a table over all of them."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from riffusion.diffusion.knowledge import Knowledge, load_knowledge
from riffusion.painting import page
from riffusion.painting.markup import GENERATOR
from riffusion.painting.result import RECORD, Result, read_result
from riffusion.painting.search_page import grid_page
from riffusion.painting.sounds import loudness_of, sound_files, write_archive
from riffusion.painting.summary import Cell, summary_rows
from riffusion.util import files
from riffusion.util.errors import UserError

RECORDS = "results.json"  # beside the folders of results
FAILURES = "failures.json"  # beside it, if the last run had any: what failed, and why
PAGE = "index.html"
ARCHIVE = "sounds.zip"  # beside it: all sounds, unless they are too large
SEARCH, SEARCH_PAGE = "guidance.json", "guidance.html"  # over the folders of a guidance search
NOT_OURS = "already exists and was not written by this tool; pass another --base_save_path"
WORKING = ".painting-"  # begins the name of a folder that isn't finished


def is_finished(folder: Path, settings: dict[str, object], overwrite: bool) -> bool:
    """Whether a result's folder already holds what these settings make.

    Raises UserError if it holds anything else, unless that may be overwritten.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, where a folder of results should be; pass another --base_save_path")
    if overwrite or not folder.exists() or all(path.name.startswith(WORKING) for path in folder.iterdir()):
        return False
    advice = "pass --overwrite to replace it, or another --base_save_path"
    result = read_result(folder)
    if result is None:
        raise UserError(f"{folder}: already exists, and is not a finished result; {advice}")
    changes = changed_settings(result.settings, settings)
    if changes:
        raise UserError(f"{folder}: was painted with other settings ({', '.join(changes)}); {advice}")
    return True


def changed_settings(recorded: dict[str, Any], requested: dict[str, object]) -> list[str]:
    """What differs between a result's settings and those of a run, each in words."""
    requested = json.loads(json.dumps(requested, default=str))  # as they would be read back
    differing = [name for name in {*recorded, *requested} if recorded.get(name) != requested.get(name)]
    if same_model(recorded, requested):
        differing = [name for name in differing if name != "model_id"]
    return [f"{name} {recorded.get(name)!r}, now {requested.get(name)!r}" for name in sorted(differing)]


def same_model(recorded: dict[str, Any], requested: dict[str, Any]) -> bool:
    """Whether two settings name one model by its content, wherever it lies."""
    digests = recorded.get("model_sha256"), requested.get("model_sha256")
    return digests[0] is not None and digests[0] == digests[1]


def earlier_seed(folders: list[Path]) -> int | None:
    """The seed of the first result that already exists, so that a run without a seed can resume."""
    found = (read_result(folder) for folder in folders)
    return next((result.settings.get("seed") for result in found if result is not None), None)


def check_pages(folder: Path) -> None:
    """Raise UserError if a page or a table that a run would write there is somebody else's."""
    for name in (PAGE, SEARCH_PAGE):
        path = folder / name
        if path.exists() and GENERATOR not in path.read_text(encoding="utf-8", errors="replace"):
            raise UserError(f"{path}: {NOT_OURS}")
    if (folder / RECORDS).exists() and not (folder / PAGE).exists():
        raise UserError(f"{folder / RECORDS}: {NOT_OURS}")


@contextmanager
def working_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to work in, which becomes `folder` at the end; after an error it is deleted.

    In a folder that already exists, an earlier result's files are replaced and others are kept. Raises UserError while
    another run is at work on the same folder.
    """
    if folder.is_symlink():
        files.make_folder(folder.resolve())
    # an existing folder may be on another disk than what is around it: a link, or a mount
    around = folder if folder.exists() else files.make_folder(folder.parent)
    aside = files.make_folder(around / f"{WORKING}{folder.name}")
    try:
        lock = FileLock(aside / "lock", timeout=0).acquire()
    except Timeout as error:
        raise UserError(f"{folder}: another run is painting this") from error
    with lock:
        for path in aside.iterdir():  # what a killed run has left
            if path.name != "lock":
                path.unlink() if path.is_file() else shutil.rmtree(path)
        work = files.make_folder(aside / "work")
        try:
            yield work
            publish(work, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def publish(work: Path, folder: Path) -> None:
    """Let what lies in `work` be the result in `folder`; its record is removed first and comes last."""
    if not folder.exists():
        work.replace(folder)
        return
    earlier = read_result(folder)
    (folder / RECORD).unlink(missing_ok=True)
    for track in earlier.tracks if earlier is not None else []:
        for name in (track.sound, track.picture):
            (folder / Path(name).name).unlink(missing_ok=True)
    for path in sorted(work.iterdir(), key=lambda path: path.name == RECORD):
        path.replace(folder / path.name)


def load_results(folder: Path) -> list[Result]:
    """All finished results in a folder, by name; other programs' files are skipped."""
    folders = [path.parent for path in sorted(folder.glob(f"*/{RECORD}")) if not path.parent.name.startswith(WORKING)]
    return [result for result in map(read_result, folders) if result is not None]


def save_failures(folder: Path, failures: dict[str, str]) -> None:
    """Keep what failed in a run, by name, until the next one."""
    if failures:
        files.save_json(files.make_folder(folder) / FAILURES, failures)
    else:
        (folder / FAILURES).unlink(missing_ok=True)


def write_overview(folder: Path, archive_bytes: int = 0) -> None:
    """Write the page and the table of all finished results in a folder, unless there is nothing to show.

    Their sounds also go into one file, if together they take `archive_bytes` at most.
    """
    found, searched = load_results(folder), (folder / SEARCH_PAGE).exists()
    failures = files.load_json(folder / FAILURES) if (folder / FAILURES).is_file() else {}
    if found or searched:
        files.save_json(folder / RECORDS, [result.to_json() for result in found])
        sound_bytes = sum(path.stat().st_size for path in sound_files(folder, found))
        archive = archived(folder, found) if 0 < sound_bytes <= archive_bytes else None
        if archive is None:
            (folder / ARCHIVE).unlink(missing_ok=True)
        levels = loudness_of(folder, found)
        address = SEARCH_PAGE if searched else None
        around = page.Surroundings(address, failures, levels, archive, sound_bytes, models_of(found))
        files.write_atomically(folder / PAGE, page.results_page(found, summary_rows(found), around))


def archived(folder: Path, found: list[Result]) -> str | None:
    """Write the file of all sounds; returns its name, or None where there is no room for it: the page is worth more."""
    try:
        write_archive(folder / ARCHIVE, sound_files(folder, found))
    except UserError:
        return None
    return ARCHIVE


def models_of(found: list[Result]) -> dict[str, Knowledge]:
    """What the models of some results know, by name: of those that still lie here and say so."""
    names = dict.fromkeys(str(result.settings.get("model_id")) for result in found)
    known = {name: load_knowledge(name) for name in names if Path(name).exists()}
    return {name: knowledge for name, knowledge in known.items() if knowledge is not None}


def write_search(base: Path) -> None:
    """Write the page over all folders of a guidance search, of this run and of earlier ones."""
    folders = sorted(path.parent for path in base.glob(f"*/{PAGE}"))
    found = [(folder.name, load_results(folder)) for folder in folders]
    cells = [Cell.of(name, PAGE, results) for name, results in found if results]
    if cells:
        files.save_json(base / SEARCH, [cell.to_json() for cell in cells])
        levels = {
            f"{name}/{address}": level
            for name, results in found
            for address, level in loudness_of(base / name, results[:1]).items()
        }
        files.write_atomically(base / SEARCH_PAGE, grid_page(cells, levels))
