"""Results as pages that open from disk, without a server or a network: pictures, players, measurements."""

import functools
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np

from riffusion.painting.columns import MEANINGS, meanings
from riffusion.painting.measurements import Verdict
from riffusion.painting.result import Result, Track
from riffusion.painting.summary import PAINTED, Cell
from riffusion.util.tables import cell_text, column_names

GENERATOR = '<meta name="generator" content="riff-pix2pix">'
HERE = Path(__file__).parent
PITCHES = (220, 440, 880, 1760, 3520, 7040)  # Hz: the A's
LONG_SECONDS = 12  # from here on tracks lie under one another, as wide as the page
TIME_STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200)
MOST_TICKS = 10
CLOCK_SECONDS = 60  # songs longer than that have times as 1:15


def results_page(
    results: Sequence[Result],
    summary: list[dict[str, object]],
    search: str | None = None,
    failures: dict[str, str] | None = None,
) -> str:
    """The page over all results, with a table over all, the rows of `summary`.

    `search` is the address of a guidance search's page, if there is one; `failures` says by name what failed and why.
    """
    heading = f"<h1>Results</h1><p>{_verdicts(results)}</p>" if results else "<h1>Results</h1>"
    link = f'<p><a href="{_link(search)}">guidance search</a></p>' if search else ""
    failed = _table([{"not painted": name, "because": reason} for name, reason in (failures or {}).items()])
    tables = [summary, *(table for result in results for table in (_measurements(result), _attempts(result)))]
    body = [heading, link, failed, _table(summary), _legend(tables), *map(_song, by_song(results))]
    return _document("Results", "\n".join(body), script=_asset("page.js"))


def _verdicts(results: Sequence[Result]) -> str:
    """How many results there are, and how many edits were performed."""
    count = f"{len(results)} sample{'s' * (len(results) != 1)}"
    judged = [one.measured.verdict for one in results if one.measured.verdict is not Verdict.UNKNOWN]
    performed = judged.count(Verdict.PERFORMED)
    return f"{count}, {performed} of {len(judged)} edits performed (by level, activity and sound)" if judged else count


def grid_page(cells: Sequence[Cell]) -> str:
    """The page of a guidance search.

    Pictures and players are those of each cell's first result; they share one clock, as the tracks of a result do.
    """
    found = {(cell.guidance_scale, cell.image_guidance_scale): _cell(cell) for cell in cells}
    texts, images = (sorted(set(scales)) for scales in zip(*found, strict=True))
    rows = []
    for text in texts:
        fields = "".join(found.get((text, image), "<td></td>") for image in images)
        rows.append(f"<tr><th>text {text:g}</th>{fields}</tr>")
    heading = "".join(f"<th>image {image:g}</th>" for image in images)
    grid = f'<div class="scroll"><table><tr><th></th>{heading}</tr>{"".join(rows)}</table></div>'
    seconds = max(cell.seconds for cell in cells)
    grid = f'<section class="sample" data-seconds="{seconds:.6f}">{grid}</section>'
    text = "Each cell: the first sample's stem and players, the share of edits performed, and what was measured of all."
    body = f"<h1>Guidance search</h1><p>{text}</p>{grid}{_legend([[cell.summary.row() for cell in cells]])}"
    return _document("Guidance search", body, script=_asset("page.js"))


def _cell(cell: Cell) -> str:
    summary = cell.summary.row()
    performed = cell_text(summary.pop("performed %"))
    rest = "<br>".join(f"{escape(name)} {cell_text(value)}" for name, value in summary.items())
    picture = f'<img src="{_link(cell.picture)}" alt="spectrogram, stem" loading="lazy">'
    players = "".join(
        f'<span class="soft">{escape(name)}</span><audio controls preload="metadata" src="{_link(sound)}"></audio>'
        for name, sound in cell.sounds.items()
    )
    return (
        f'<td class="cell"><div class="scroll"><div class="sheet"><div class="plot">{picture}<i></i></div></div></div>'
        f'{players}<a href="{_link(cell.page)}"><b>{performed} % performed</b></a>'
        f'<br><span class="soft">{rest}</span></td>'
    )


def _link(*parts: str) -> str:
    """A relative address, whatever characters are in its names."""
    return escape(quote("/".join(parts), errors="surrogateescape"), quote=True)


def _document(title: str, body: str, script: str = "") -> str:
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
{script}</script>
</body>
</html>
"""


@functools.cache
def _asset(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def by_song(results: Sequence[Result]) -> list[list[Result]]:
    """Results of one song together; what is painted into another result follows it. Else the order is kept."""
    named = {result.name: result for result in results}
    below: dict[str, list[Result]] = {}
    songs: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if _below(result) in named:
            below.setdefault(_below(result), []).append(result)
        else:
            songs.setdefault((result.title, result.settings.get("input_sha256") or result.name), []).append(result)

    def with_those_on_it(result: Result) -> list[Result]:
        return [result, *(one for above in below.get(result.name, []) for one in with_those_on_it(above))]

    return [[one for result in song for one in with_those_on_it(result)] for song in songs.values()]


def _song(results: Sequence[Result]) -> str:
    """All results of a song, under its name if there are several."""
    if len(results) == 1:
        return _result(results[0], results[0].title)
    sections = "\n".join(_result(result, result.name) for result in results)
    heading = f'<h2>{escape(results[0].title)} <span class="soft">{len(results)} edits</span></h2>'
    return f'<section class="song">\n{heading}\n{sections}\n</section>'


def _result(result: Result, heading: str) -> str:
    asked = f'<span class="task">{escape(result.task)}</span> ' if result.task else ""
    attempts = len(result.attempts)
    kept = f'<p class="soft">attempt {result.kept} kept, of 0 to {attempts - 1}</p>' if attempts > 1 else ""
    long = result.seconds > LONG_SECONDS
    onto = f'<p class="soft">painted into the result of {escape(below)}</p>' if (below := _below(result)) else ""
    zoom = '<p><button class="zoom">zoom</button></p>' if long else ""
    tracks = "\n".join(_track(result, track) for track in result.tracks)
    comparison = _link(result.name, result.comparison)
    return f"""<section class="sample{" long" * long}" data-seconds="{result.seconds:.6f}">
<h2>{escape(heading)} {_badge(result.measured.verdict)}</h2>
<p class="prompt">{asked}{escape(result.prompt) or '<span class="soft">(no instruction)</span>'}</p>
{onto}{kept}{zoom}<div class="tracks">
{tracks}
</div>
<details><summary>animated comparison</summary><img src="{comparison}" alt="" loading="lazy"></details>
<details><summary>measured</summary>{_table(_measurements(result))}{_table(_attempts(result))}</details>
<details><summary>settings</summary>{_table(_settings(result))}</details>
</section>"""


def _below(result: Result) -> str:
    """The name of the result that this one is painted into, "" if it is painted into a song."""
    return result.settings.get("onto") or ""


def _badge(verdict: Verdict) -> str:
    """A verdict in words; nothing where there is none."""
    if verdict is Verdict.UNKNOWN:
        return ""
    text = "edit performed" if verdict is Verdict.PERFORMED else "edit not performed"
    title = escape(MEANINGS["edit performed"], quote=True)
    return f'<span class="verdict {verdict.value}" title="{title}">{text}</span>'


def _measurements(result: Result) -> list[dict[str, object]]:
    """What was painted beside the controls, measured alike."""
    return [{"answer": name} | row.row() for name, row in (result.controls | {PAINTED: result.measured}).items()]


def _attempts(result: Result) -> list[dict[str, object]]:
    """All attempts, and which of them was kept."""
    return [
        {"attempt": one.number, "kept": "kept" if one.number == result.kept else ""} | one.to_json()
        for one in result.attempts
    ]


def _settings(result: Result) -> list[dict[str, object]]:
    """Settings to the last digit, which measurements needn't have."""
    shown = {name: None if value is None else str(value) for name, value in result.settings.items()}
    return [{"setting": name, "value": value} for name, value in shown.items()]


def _track(result: Result, track: Track) -> str:
    sound, picture = (_link(result.name, name) for name in (track.sound, track.picture))
    ticks = "".join(f'<span style="left:{place:.2f}%">{label}</span>' for place, label in time_ticks(result.seconds))
    pitches = "".join(
        f'<span style="top:{place:.2f}%">{label}</span>'
        for place, label in pitch_ticks(result.min_frequency, result.max_frequency)
    )
    return f"""<figure class="track">
<figcaption><b>{escape(track.name)}</b><audio controls preload="metadata" src="{sound}"></audio></figcaption>
<div class="graph" style="--columns:{result.columns}px">
<div class="pitches">{pitches}</div>
<div class="scroll"><div class="sheet">
<div class="plot"><img src="{picture}" alt="spectrogram, {escape(track.name)}" loading="lazy"><i></i></div>
<div class="times">{ticks}</div>
</div></div>
</div>
</figure>"""


def time_ticks(seconds: float) -> list[tuple[float, str]]:
    """Labels of a time axis and their places in percent of its width, `MOST_TICKS` at most."""
    step = next((step for step in TIME_STEPS if seconds / step <= MOST_TICKS), TIME_STEPS[-1])
    times = np.arange(0, seconds - step / 4, step)
    return [(100 * time / seconds, _time(time, seconds)) for time in times.tolist()]


def _time(time: float, seconds: float) -> str:
    return f"{int(time // 60)}:{int(time % 60):02d}" if seconds > CLOCK_SECONDS else f"{time:g} s"


def pitch_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Labels of a picture's pitch axis and their places in percent from its top; HTK's mel scale from the bottom up."""
    bottom, top = _mel(low), _mel(high)
    places = [(100 * (top - _mel(pitch)) / (top - bottom), f"{pitch} Hz") for pitch in PITCHES]
    return [(place, label) for place, label in places if 0 <= place <= 100]


def _mel(frequency: float) -> float:
    return float(2595 * np.log10(1 + frequency / 700))


def _table(rows: list[dict]) -> str:
    if not rows:
        return ""
    names = column_names(rows)
    heading = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = ["".join(f"<td>{escape(cell_text(row.get(name)))}</td>" for name in names) for row in rows]
    cells = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><tr>{heading}</tr>{cells}</table></div>'


def _legend(tables: list[list[dict]]) -> str:
    """What the columns of these tables mean, each once."""
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in meanings(tables).items())
    return (
        f'<details class="legend"><summary>what the columns mean</summary><dl>{lines}</dl></details>' if lines else ""
    )
