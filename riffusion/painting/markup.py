"""What pages are made of: a document that opens from disk, links, tables and what their columns mean."""

import functools
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from riffusion.painting.columns import MEANINGS, SETTINGS, meanings
from riffusion.util.tables import cell_text, column_names

GENERATOR = '<meta name="generator" content="riff-pix2pix">'
SETTING = "setting"  # the column that holds names of figures
HERE = Path(__file__).parent


def document(title: str, body: str) -> str:
    """A whole page with its style and script in it."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{GENERATOR}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_asset("page.css")}</style>
</head>
<body>
{body}
<script>
{_asset("page.js")}</script>
</body>
</html>
"""


@functools.cache
def _asset(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def link(*parts: str) -> str:
    """A relative address, whatever characters are in its names."""
    return escape(quote("/".join(parts), errors="surrogateescape"), quote=True)


def explained(name: str, tag: str = "span") -> str:
    """A figure's name; what it means is shown where a mouse rests on it."""
    return f"<{tag}{hint(name)}>{escape(name)}</{tag}>"


def hint(name: str) -> str:
    """The attribute that explains a figure, empty where there is nothing to explain."""
    known = MEANINGS | SETTINGS
    return f' title="{escape(known[name], quote=True)}"' if name in known else ""


def table(rows: Sequence[dict[str, object]]) -> str:
    """Rows as a table whose headings explain themselves, and with the page's script all figures; nothing without rows.

    In the column `SETTING` every cell is a figure's name.
    """
    if not rows:
        return ""
    names = column_names(list(rows))
    heading = "".join(explained(name, "th") for name in names)
    lines = ["".join(_cell(name, cell_text(row.get(name))) for name in names) for row in rows]
    cells = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><tr>{heading}</tr>{cells}</table></div>'


def _cell(column: str, text: str) -> str:
    return f"<td{hint(text) if column == SETTING else ''}>{escape(text)}</td>"


def legend(tables: list[list[dict]]) -> str:
    """What the columns of these tables mean, each once."""
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in meanings(tables).items())
    return (
        f'<details class="legend"><summary>what the columns mean</summary><dl>{lines}</dl></details>' if lines else ""
    )


def player(sound: str, gain: float) -> str:
    """A player of a sound at an address; `gain` makes it as loud as the others beside it."""
    return f'<audio controls preload="metadata" src="{sound}" data-gain="{gain:.3f}"></audio>'


def transport(picks: str) -> str:
    """What plays, stops and zooms all tracks of a sample together, around the buttons that switch between them.

    It is hidden where no script runs.
    """
    return (
        f'<button class="play" title="play or stop (space)">&#9654;</button>{picks}'
        '<output class="clock"></output>'
        '<span class="zoom"><button class="out" title="zoom out (-)">&minus;</button>'
        '<button class="in" title="zoom in (+)">+</button></span>'
    )


def tools() -> str:
    """What is set for the whole page, and which keys there are."""
    return """<p class="tools"><label title="all tracks as loud as the softest of their sample, up to 12 dB softer">
<input type="checkbox" id="match" checked> same loudness</label>
<span class="soft keys"><kbd>space</kbd> play or stop, <kbd>1</kbd> <kbd>2</kbd> <kbd>3</kbd> switch, <kbd>&larr;</kbd>
<kbd>&rarr;</kbd> move, <kbd>&uarr;</kbd> <kbd>&darr;</kbd> other sample, <kbd>+</kbd> <kbd>&minus;</kbd>
zoom</span></p>"""
