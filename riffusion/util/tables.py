"""Rows as text: for the console and as Markdown."""

import math
import shutil
import textwrap

import numpy as np

ABSENT = "-"  # in a table's cell
GAP = "  "  # between a table's columns
HARD_SPACE = "\N{NO-BREAK SPACE}"  # where a line must not end


def table(rows: list[dict[str, object]], width: int | None = None) -> str:
    """Rows as aligned text under a heading, no wider than `width` characters (default: the terminal's).

    Columns that don't fit follow in further tables, each with the first column again; where not even one fits beside
    it, every row is a paragraph instead. Nothing is cut.
    """
    if not rows:
        return "(nothing)"
    width = width or shutil.get_terminal_size().columns
    columns = [[name, *(cell_text(row.get(name)) for row in rows)] for name in column_names(rows)]
    groups = _column_groups(columns, width)
    if any(_width(group) > width for group in groups):
        return "\n\n".join(_paragraph(columns, row, width) for row in range(1, len(rows) + 1))
    return "\n\n".join(map(_aligned, groups))


def filled(text: str, width: int | None = None) -> str:
    """A text as lines no wider than `width` characters (default: the terminal's), all but the first indented."""
    return textwrap.fill(text, width or shutil.get_terminal_size().columns, subsequent_indent=GAP)


def markdown_table(rows: list[dict[str, object]]) -> str:
    """Rows as a table of Markdown."""
    if not rows:
        return "(not recorded)"
    names = column_names(rows)
    cells = [[cell_text(row.get(name)) for name in names] for row in rows]
    lines = [names, ["---"] * len(names), *([text.replace("|", "\\|") for text in line] for line in cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def column_names(rows: list[dict[str, object]]) -> list[str]:
    """The names of all columns that any row has, in order."""
    return list(dict.fromkeys(name for row in rows for name in row))


def cell_text(value: object) -> str:
    """A value as every table shows it, on the console, in Markdown and on a page.

    What is absent, not a number or infinite is `ABSENT`. Other floats get two decimals, or two digits where that would
    leave none of them.
    """
    if is_absent(value):
        return ABSENT
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        value = float(value)
        return f"{value:.2g}" if 0 < abs(value) < 0.1 else f"{value:.2f}"
    return str(value).replace("\n", " ")


def counted(number: int, noun: str) -> str:
    """How many there are of something whose plural ends in s: "1 song", "2 songs"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def is_absent(value: object) -> bool:
    """Whether there is nothing to show: None, NaN or infinity."""
    return value is None or (isinstance(value, float | np.floating) and not math.isfinite(value))


def _column_groups(columns: list[list[str]], width: int) -> list[list[list[str]]]:
    """Columns in groups that each fit a width if that can be, every group with the first column."""
    groups = [columns[:1]]
    for column in columns[1:]:
        if len(groups[-1]) > 1 and _width([*groups[-1], column]) > width:
            groups.append(columns[:1])
        groups[-1] = [*groups[-1], column]
    return groups


def _width(columns: list[list[str]]) -> int:
    """Characters in a line of an aligned table."""
    return sum(max(map(len, column)) for column in columns) + len(GAP) * (len(columns) - 1)


def _aligned(columns: list[list[str]]) -> str:
    """A table of columns, each with its heading first."""
    padded = [[text.ljust(max(map(len, column))) for text in column] for column in columns]
    return "\n".join(GAP.join(line).rstrip() for line in zip(*padded, strict=True))


def _paragraph(columns: list[list[str]], row: int, width: int) -> str:
    """One row of a table that is too wide: the first column's text, and below it the others' names and texts."""
    texts = [f"{column[0]}: {column[row]}".replace(" ", HARD_SPACE) for column in columns[1:]]
    lines = textwrap.wrap(columns[0][row], width) + textwrap.wrap(
        "; ".join(texts), width, initial_indent=GAP, subsequent_indent=GAP, break_on_hyphens=False
    )
    return "\n".join(lines).replace(HARD_SPACE, " ")
