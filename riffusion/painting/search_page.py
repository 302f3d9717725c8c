"""The page of a guidance search: curves over the scales, and a cell with players for each pair of them."""

from collections.abc import Callable, Sequence
from html import escape

from riffusion.painting.charts import chart_key, line_chart
from riffusion.painting.columns import MEANINGS
from riffusion.painting.loudness import matching_gains
from riffusion.painting.markup import document, explained, hint, legend, link, player, tools, transport
from riffusion.painting.summary import BACKING_CHANGED, OUTSIDE, SHARE, Cell, best_cell, doubts
from riffusion.util.tables import cell_text

BOUNDS = {SHARE: (0.0, 100.0)}
MOST_NAMED = 3  # instructions and songs


def grid_page(cells: Sequence[Cell], levels: dict[str, float] | None = None) -> str:
    """The page of a guidance search.

    Pictures and players are those of each cell's first result; they share one clock, as the tracks of a result do.
    `levels` are the loudnesses of sounds by their addresses, as far as they are known.
    """
    best, reason = best_cell(cells)
    gains = cell_gains(cells, levels or {})
    found = {cell.scales: _cell(cell, gains, cell is best) for cell in cells}
    texts, images = (sorted(set(scales)) for scales in zip(*found, strict=True))
    rows = []
    for text in texts:
        fields = "".join(found.get((text, image), "<td></td>") for image in images)
        rows.append(f"<tr>{_scale('text guidance', text)}{fields}</tr>")
    heading = "".join(_scale("image guidance", image) for image in images)
    grid = f'<div class="scroll"><table><tr><th></th>{heading}</tr>{"".join(rows)}</table></div>'
    seconds = max(cell.seconds for cell in cells)
    first = input_of(cells)
    pick = f'<button class="pick">input</button>{player(link(first), gains.get(first, 1.0))}'
    head = f'<div class="transport">{transport(pick)}</div>'
    grid = f'<section class="sample" data-seconds="{seconds:.6f}">{head}{grid}</section>'
    text = "Each cell: the first sample's stem and players, the share of edits performed, and what was measured of all."
    chosen = f'<p><b class="mark">Best: text {best.guidance_scale:g}, image {best.image_guidance_scale:g}</b>: '
    warnings = "".join(f'<p class="warning">{escape(doubt)}</p>' for doubt in doubts(best, cells))
    found_best = f"{chosen}{escape(reason)}.</p>{warnings}"
    body = f"<h1>Guidance search</h1>{subject(cells)}<p>{text}</p>{found_best}{curves(cells)}{tools()}{grid}"
    return document("Guidance search", body + legend([[cell.summary.row() for cell in cells]]))


def subject(cells: Sequence[Cell]) -> str:
    """What was painted, and into what: the first few instructions and songs."""
    prompts = named([prompt for cell in cells for prompt in cell.prompts])
    titles = named([title for cell in cells for title in cell.titles])
    return f'<p class="prompt">{escape(prompts)}</p><p class="soft">{escape(titles)}</p>'


def named(names: Sequence[str]) -> str:
    """Each name once, the first few of them."""
    shown = list(dict.fromkeys(names))
    more = len(shown) - MOST_NAMED
    return "; ".join(shown[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def input_of(cells: Sequence[Cell]) -> str:
    """The input, which all cells have alike: the address of the first cell's."""
    return min(cells, key=lambda cell: cell.scales).input


def _scale(kind: str, scale: float) -> str:
    return f"<th{hint(kind)}>{kind.removesuffix(' guidance')} {scale:g}</th>"


def cell_gains(cells: Sequence[Cell], levels: dict[str, float]) -> dict[str, float]:
    """Factors that make all sounds of a search equally loud, by address."""
    sounds = dict.fromkeys([input_of(cells), *(sound for cell in cells for sound in cell.sounds.values())])
    known = [sound for sound in sounds if sound in levels]
    return dict(zip(known, matching_gains([levels[sound] for sound in known]), strict=True))


def _cell(cell: Cell, gains: dict[str, float], is_best: bool) -> str:
    summary = {name: value for name, value in cell.summary.row().items() if name != "answer"}
    del summary[SHARE]
    rest = "<br>".join(f"{explained(name)} {cell_text(value)}" for name, value in summary.items())
    picture = f'<img src="{link(cell.picture)}" alt="spectrogram, stem" loading="lazy">'
    players = "".join(
        f'<button class="pick">{escape(name)}</button>{player(link(sound), gains.get(sound, 1.0))}'
        for name, sound in cell.sounds.items()
    )
    share = f'<a href="{link(cell.page)}"{hint(SHARE)}><b>{cell.summary.performed}</b></a>'
    mark = ' <b class="mark">best</b>' if is_best else ""
    return (
        f'<td class="cell{" best" * is_best}"><div class="scroll"><div class="sheet"><div class="plot">{picture}<i></i>'
        f'</div></div></div>{players} {share}{mark}<br><span class="soft">{rest}</span></td>'
    )


def curves(cells: Sequence[Cell]) -> str:
    """Performed, level and preservation against each scale that varies, a line for every value of the other one."""
    charts = []
    for axis, x, other, series in (
        ("text guidance", lambda cell: cell.guidance_scale, "image", lambda cell: cell.image_guidance_scale),
        ("image guidance", lambda cell: cell.image_guidance_scale, "text", lambda cell: cell.guidance_scale),
    ):
        drawn = [chart for name in measured(cells) if (chart := _curve(cells, name, axis, x, series))]
        names = [f"{other} {value:g}" for value in sorted({series(cell) for cell in cells})]
        charts += [f'<div class="charts">{"".join(drawn)}{chart_key(names) if len(names) > 1 else ""}</div>'] * bool(
            drawn
        )
    return "\n".join(charts)


def measured(cells: Sequence[Cell]) -> dict[str, Callable[[Cell], float]]:
    """What is drawn, by its name: for preservation what was measured, pictures or samples."""
    drawn: dict[str, Callable[[Cell], float]] = {
        SHARE: lambda cell: cell.summary.performed_percent,
        "level dB": lambda cell: cell.summary.level_db,
    }
    if any(cell.summary.outside_grey is not None for cell in cells):
        drawn[OUTSIDE] = lambda cell: _number(cell.summary.outside_grey)
    elif any(cell.summary.backing_changed is not None for cell in cells):
        drawn[BACKING_CHANGED] = lambda cell: _number(cell.summary.backing_changed)
    return drawn


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _curve(
    cells: Sequence[Cell], name: str, axis: str, x: Callable[[Cell], float], series: Callable[[Cell], float]
) -> str:
    value = measured(cells)[name]
    lines = {
        f"{series_value:g}": sorted((x(cell), value(cell)) for cell in cells if series(cell) == series_value)
        for series_value in sorted({series(cell) for cell in cells})
    }
    chart = line_chart(name, axis, lines, BOUNDS.get(name))
    return f'<figure title="{escape(MEANINGS[name], quote=True)}">{chart}</figure>' if chart else ""
