"""Folders of results: one a sample, whole or not there, with a page and a table over all of them."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from riffusion.painting import page
from riffusion.util import files
from riffusion.util.errors import UserError

RECORD = "result.json"  # of a sample's folder
RECORDS = "results.json"  # of the folder of all samples
FAILURES = "failures.json"  # beside it, if the last run had any: what failed, and why
PAGE = "index.html"
SEARCH, SEARCH_PAGE = "guidance.json", "guidance.html"  # over the folders of a guidance search
PRESERVED = ("outside, grey levels", "backing samples changed")  # how well the rest was kept, where that was measured
NOT_OURS = "already exists and was not written by this tool; pass another --base_save_path"
WORKING = ".painting-"  # begins the name of a folder that isn't finished


def is_finished(folder: Path, settings: dict[str, object], overwrite: bool) -> bool:
    """Whether a sample's folder already holds what these settings make.

    Raises UserError if it holds anything else, unless that may be overwritten.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, where a folder of results should be; pass another --base_save_path")
    if overwrite or not folder.exists() or all(path.name.startswith(WORKING) for path in folder.iterdir()):
        return False
    way_out = "pass --overwrite to replace it, or another --base_save_path"
    if not (folder / RECORD).is_file():
        raise UserError(f"{folder}: already exists, and is not a finished result; {way_out}")
    there, now = files.load_json(folder / RECORD).get("settings", {}), as_read(settings)
    if there.get("model_sha256") == now.get("model_sha256") is not None:
        there["model_id"] = now.get("model_id")  # the same model, wherever it lies
    other = [name for name in {*there, *now} if there.get(name) != now.get(name)]
    if other:
        changes = ", ".join(f"{name} {there.get(name)!r}, now {now.get(name)!r}" for name in sorted(other))
        raise UserError(f"{folder}: was painted with other settings ({changes}); {way_out}")
    return True


def as_read(settings: dict[str, object]) -> dict[str, object]:
    """Settings as they come back from a JSON file."""
    return json.loads(json.dumps(settings, default=str))


def earlier_seed(folders: list[Path]) -> int | None:
    """The seed of results that are there already, so that a run without one can go on."""
    for folder in folders:
        if (folder / RECORD).is_file():
            return files.load_json(folder / RECORD).get("settings", {}).get("seed")
    return None


def check_pages(folder: Path) -> None:
    """Raise UserError if a page or a table that a run would write there is somebody else's."""
    for name in (PAGE, SEARCH_PAGE):
        path = folder / name
        if path.exists() and page.GENERATOR not in path.read_text(encoding="utf-8", errors="replace"):
            raise UserError(f"{path}: {NOT_OURS}")
    if (folder / RECORDS).exists() and not (folder / PAGE).exists():
        raise UserError(f"{folder / RECORDS}: {NOT_OURS}")


@contextmanager
def working_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to work in, which becomes `folder` at the end, whole, or on an error goes away.

    In a folder that is there already, an earlier result's files are replaced and others stay. Raises UserError while
    another run is at work on the same folder.
    """
    if folder.is_symlink():
        files.make_folder(folder.resolve())
    # a folder that is there may be on another disk than what is around it: a link, or a mount
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


def publish(aside: Path, folder: Path) -> None:
    """Let what lies in `aside` be the result in `folder`; its record goes first and comes last."""
    if not folder.exists():
        aside.replace(folder)
        return
    if (folder / RECORD).is_file():
        earlier = files.load_json(folder / RECORD)
        (folder / RECORD).unlink()
        for track in earlier.get("tracks", []):
            for name in (track["sound"], track["picture"]):
                (folder / Path(name).name).unlink(missing_ok=True)
    for path in sorted(aside.iterdir(), key=lambda path: path.name == RECORD):
        path.replace(folder / path.name)


def load_records(folder: Path) -> list[dict]:
    """The records of all finished samples in a folder, by name; what isn't ours is passed over."""
    paths = [path for path in sorted(folder.glob(f"*/{RECORD}")) if not path.parent.name.startswith(WORKING)]
    records = [files.load_json(path) | {"sample": path.parent.name} for path in paths]
    return [record for record in records if {"measured", "controls", "tracks", "settings"} <= set(record)]


def save_failures(folder: Path, failures: dict[str, str]) -> None:
    """Keep what failed in a run, by name, until the next one."""
    if failures:
        files.save_json(files.make_folder(folder) / FAILURES, failures)
    else:
        (folder / FAILURES).unlink(missing_ok=True)


def write_overview(folder: Path) -> None:
    """Write the page and the table of all finished samples in a folder, unless there is nothing to show."""
    records, searched = load_records(folder), (folder / SEARCH_PAGE).exists()
    failures = files.load_json(folder / FAILURES) if (folder / FAILURES).is_file() else {}
    if records or searched:
        files.save_json(folder / RECORDS, records)
        html = page.samples_page(records, summary(records), SEARCH_PAGE if searched else None, failures)
        files.write_atomically(folder / PAGE, html)


def write_search(base: Path) -> None:
    """Write the page over all folders of a guidance search, of this run and of earlier ones."""
    cells = []
    for folder in sorted(path.parent for path in base.glob(f"*/{PAGE}")):
        records = load_records(folder)
        if records:
            first = records[0]
            home, tracks = f"{folder.name}/{first['sample']}", {track["name"]: track for track in first["tracks"]}
            heard = [name for name in ("painted", "stem") if name in tracks]
            cells.append(
                {name: first["settings"][name] for name in ("guidance_scale", "image_guidance_scale")}
                | {"page": f"{folder.name}/{PAGE}", "picture": f"{home}/{tracks['stem']['picture']}"}
                | {"sounds": {name: f"{home}/{tracks[name]['sound']}" for name in heard}, "seconds": first["seconds"]}
                | {"summary": summary(records)[-1]}
            )
    if cells:
        files.save_json(base / SEARCH, cells)
        files.write_atomically(base / SEARCH_PAGE, page.grid_page(cells))


def guidance(record: dict) -> dict[str, object]:
    """The guidance that a result was painted with, as tables show it."""
    settings = record["settings"]
    return {"text guidance": settings["guidance_scale"], "image guidance": settings["image_guidance_scale"]}


def search_summary(records: list[dict]) -> list[dict[str, object]]:
    """The table over a guidance search: the control rows, which have none, and what was painted with each guidance."""
    groups: dict[tuple, list[dict]] = {}
    for record in records:
        groups.setdefault(tuple(guidance(record).values()), []).append(record)
    painted = [(guidance(group[0]), summary(group)[-1]) for group in groups.values()]
    controls = summary(next(iter(groups.values())))[:-1]
    blank = dict.fromkeys(("text guidance", "image guidance"))
    return [{"answer": row["answer"]} | scales | row for scales, row in [*((blank, row) for row in controls), *painted]]


def summary(records: list[dict]) -> list[dict[str, object]]:
    """The table over all samples: the control rows where there are targets, and what was painted."""
    answers = [name for name in ("copy the input", "oracle") if any(name in record["controls"] for record in records)]
    rows = [
        summarise(answer, [record["controls"][answer] for record in records if answer in record["controls"]])
        for answer in answers
    ]
    painted = [record["measured"] for record in records]
    return [*rows, summarise("painted", painted)] if painted else []


def summarise(answer: str, rows: list[dict[str, Any]]) -> dict[str, object]:
    """One row over many measurements: the share of edits performed, of those that have a verdict, and medians."""
    verdicts = [row["edit performed"] == "yes" for row in rows if row["edit performed"] != "-"]

    def median(name: str) -> float:
        known = [value for value in (row.get(name) for row in rows) if value is not None and np.isfinite(value)]
        return float(np.median(known)) if known else np.nan

    return {
        "answer": answer,
        "samples": len(rows),
        "performed %": 100 * float(np.mean(verdicts)) if verdicts else np.nan,
        "level dB": median("stem level dB"),
        "active %": median("active %"),
        "voiced %": median("voiced %"),
        "pitch Hz": median("median pitch Hz"),
    } | {name: median(name) for name in PRESERVED if any(name in row for row in rows)}
