"""A list of edits: JSON lines or a CSV file, one edit a row, in the order in which they are painted.

A row's columns are named after the flags that they stand for; what a row leaves out comes from the flags. `audio` is
found from the list's own folder. Instead of it `onto` names an earlier row, into whose result this one is painted.
"""

import csv
import json
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from riffusion.painting.options import LIMITS, STDIN, PaintOptions
from riffusion.pairs.tasks import TASKS
from riffusion.util.errors import UserError, own_failure
from riffusion.util.flags import between, finite, folder_name, seconds, utf8_text
from riffusion.util.names import key, safe_name

TABLES = (".csv", ".tsv")  # endings of files with a header; others hold JSON lines
DELIMITERS = ",;\t"
ONTO = "onto"
SEVERAL = ("audio", "prompt", "guidance_scale", "image_guidance_scale")  # options that hold several values, a row one


def task_name(text: str) -> str:
    """The name of a task. Raises ValueError for another word."""
    names = [task.name for task in TASKS]
    if text not in names:
        raise ArgumentTypeError(f"must be one of {', '.join(names)}, not {text!r}")
    return text


COLUMNS: dict[str, Callable[[str], Any]] = {
    "audio": utf8_text,
    ONTO: folder_name,
    "prompt": utf8_text,
    "task": task_name,
    "without_stem": utf8_text,
    "start": seconds,
    "end": seconds,
    "name": folder_name,
    "stem_gain_db": between(*LIMITS["stem_gain_db"]),
    "pan": between(*LIMITS["pan"]),
    "seed": between(*LIMITS["seed"], int),
    "guidance_scale": finite,
    "image_guidance_scale": finite,
    "negative_prompt": utf8_text,
}


@dataclass(frozen=True)
class EditRow:
    """One row: its file and line, what it asks for, and the name of the row into whose result it is painted, if any."""

    place: str
    options: PaintOptions
    onto: str | None

    @property
    def name(self) -> str | None:
        """The folder of its result, if it says so."""
        return None if self.options.name is None else safe_name(self.options.name)


def read_edits(options: PaintOptions, failures: dict[str, str]) -> list[EditRow]:
    """The good rows of the list that `options` name; what is wrong with each other one is among the failures.

    Raises UserError if there is no such list, or if it has no row at all or a header that can't be meant.
    """
    path = options.edits
    assert path is not None
    rows: list[EditRow] = []
    names: dict[str, str] = {}  # of all rows so far, with their places
    count = 0
    for line, cells in raw_rows(path):
        count += 1
        place = f"{path}:{line}"
        with own_failure(place, failures):
            if isinstance(cells, str):
                raise UserError(f"{place}: {cells}")
            name = cells.get("name")
            earlier = dict(names)
            if name is not None:
                names.setdefault(key(safe_name(str(name))), place)
            rows.append(read_row(place, cells, options, earlier))
    if not count:
        raise UserError(f"{path}: contains no edits")
    return rows


def raw_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The line of each row and its cells by column, without empty ones; or what is wrong with it as a whole."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: can't read this list of edits ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text") from error
    yield from table_rows(path, text) if path.suffix.lower() in TABLES else json_rows(text)


def table_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The rows of a table, which begins with a header; its cells are separated by what separates the header's."""
    header = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(keepends=True), delimiter=max(DELIMITERS, key=header.count))
    columns = [name.strip() for name in reader.fieldnames or []]
    if len(columns) > len(set(columns)) or not set(columns) <= set(COLUMNS):
        wrong = next((name for name in columns if columns.count(name) > 1 or name not in COLUMNS), "")
        raise UserError(f"{path}:1: the header has {wrong!r}, where each column is one of {', '.join(COLUMNS)}")
    reader.fieldnames = columns
    for cells in reader:
        if None in cells:
            yield reader.line_num, "has more cells than the header"
        else:
            yield reader.line_num, {name: cell for name, cell in cells.items() if cell}


def json_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The objects of JSON lines; empty lines count as lines only."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            yield number, f"not JSON: {error.msg}"
            continue
        if isinstance(value, dict):
            yield number, {name: cell for name, cell in value.items() if cell is not None}
        else:
            yield number, "not a JSON object"


def read_row(place: str, cells: dict[str, Any], options: PaintOptions, earlier: dict[str, str]) -> EditRow:
    """A row from its cells; `earlier` are the names of rows before it, with their places. Raises UserError."""
    values = {name: read_cell(place, name, cell) for name, cell in cells.items()}
    onto = values.pop(ONTO, None)
    if onto is not None and not {"audio", "without_stem"}.isdisjoint(values):
        raise UserError(f"{place}: onto names the song already: it can't have audio or without_stem beside it")
    if onto is not None and key(safe_name(onto)) not in earlier:
        raise UserError(f"{place}: onto: no row before it is named {onto!r}")
    if "name" in values and (other := earlier.get(key(safe_name(values["name"])))):
        raise UserError(f"{place}: name: {values['name']!r} is that of {other}, too")
    if "audio" in values and values["audio"] != STDIN:
        assert options.edits is not None
        values["audio"] = str(options.edits.parent / values["audio"])
    values |= {name: (values[name],) for name in SEVERAL if name in values}
    values |= {"audio": None, "without_stem": None} if onto is not None else {}
    row = EditRow(place, replace(options, **values), None if onto is None else safe_name(onto))
    check_row(row)
    return row


def read_cell(place: str, name: str, cell: Any) -> Any:
    """A cell's value, of a number or text. Raises UserError if its column can't have it."""
    if name not in COLUMNS:
        raise UserError(f"{place}: {name!r} is no column; they are {', '.join(COLUMNS)}")
    if isinstance(cell, bool | list | dict):
        raise UserError(f"{place}: {name}: must be a text or a number, not {json.dumps(cell)}")
    try:
        return COLUMNS[name](str(cell).strip())
    except ArgumentTypeError as error:
        raise UserError(f"{place}: {name}: {error}") from error
    except ValueError as error:
        raise UserError(f"{place}: {name}: can't be {cell!r}") from error


def check_row(row: EditRow) -> None:
    """Raise UserError for a row that can't be meant, whatever its song is."""
    options = row.options
    if options.audio is None and row.onto is None:
        raise UserError(f"{row.place}: has neither audio nor onto")
    if options.audio == (STDIN,):
        raise UserError(f"{row.place}: audio: standard input can't be in a list")
    if options.prompt is None:
        raise UserError(f"{row.place}: has no prompt")
    if options.end is not None and options.end <= options.start:
        raise UserError(f"{row.place}: end must be after start")
