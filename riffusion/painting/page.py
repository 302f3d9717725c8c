"""Results as pages that open from disk, without a server or a network: pictures, players, measurements."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from riffusion.diffusion.knowledge import Knowledge
from riffusion.painting.loudness import matching_gains
from riffusion.painting.markup import SETTING, document, hint, legend, link, player, table, tools, transport
from riffusion.painting.measurements import Verdict
from riffusion.painting.result import Result, Track
from riffusion.painting.sounds import sound_address
from riffusion.painting.summary import PAINTED, why_not
from riffusion.util.disk_space import size
from riffusion.util.tables import counted

PITCHES = (220, 440, 880, 1760, 3520, 7040)  # Hz: the A's
LONG_SECONDS = 12  # from here on tracks lie under one another, as wide as the page
TIME_STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200)
MOST_TICKS = 10
CLOCK_SECONDS = 60  # songs longer than that have times as 1:15


@dataclass(frozen=True)
class Surroundings:
    """What a page of results shows besides them.

    `search` is the address of a guidance search's page, if there is one; `failures` says by name what failed and why;
    `levels` are the loudnesses of sounds by their addresses, as far as they are known. `archive` is the address of a
    file with all sounds, if there is one, and `sound_bytes` what they take together. `models` are those
    whose folders say what they were trained on.
    """

    search: str | None = None
    failures: dict[str, str] = field(default_factory=dict)
    levels: dict[str, float] = field(default_factory=dict)
    archive: str | None = None
    sound_bytes: int = 0
    models: dict[str, Knowledge] = field(default_factory=dict)


def results_page(
    results: Sequence[Result], summary: list[dict[str, object]], around: Surroundings | None = None
) -> str:
    """The page over all results, with a table over all, the rows of `summary`."""
    around = around or Surroundings()
    heading = f"<h1>Results</h1><p>{_verdicts(results)}</p>" if results else "<h1>Results</h1>"
    search = f'<p><a href="{link(around.search)}">guidance search</a></p>' if around.search else ""
    failed = table([{"not painted": name, "because": reason} for name, reason in around.failures.items()])
    tables = [summary, *(rows for result in results for rows in (_measurements(result), _attempts(result)))]
    songs = [_song(song, around.levels) for song in by_song(results)]
    controls = tools() + _download(around) if results else ""
    models = [_model(name, knowledge) for name, knowledge in around.models.items()]
    body = [heading, _advice(results), search, failed, *models, controls, table(summary), legend(tables), *songs]
    return document("Results", "\n".join(body))


def _verdicts(results: Sequence[Result]) -> str:
    """How many results there are, and how many edits were performed."""
    count = counted(len(results), "sample")
    judged = [one.measured.verdict for one in results if one.measured.verdict is not Verdict.UNKNOWN]
    performed = judged.count(Verdict.PERFORMED)
    return f"{count}, {performed} of {len(judged)} edits performed (by level, activity and sound)" if judged else count


def _advice(results: Sequence[Result]) -> str:
    """What to do about edits that weren't performed, if there are some."""
    if not any(result.measured.verdict is Verdict.FAILED for result in results):
        return ""
    return """<p class="soft">Not performed? <code>--retries 3</code> paints again until an edit is,
<code>--num_candidates 4</code> keeps the best of four; both with <code>--overwrite</code>.</p>"""


def _model(name: str, knowledge: Knowledge) -> str:
    """What a model was trained on and can't do."""
    of = f" of {counted(knowledge.songs, 'song')}" if knowledge.songs else ""
    told = {"instruments that instructions named": knowledge.instruments, "stems": knowledge.stems}
    lines = [f"{words}: {', '.join(names)}" for words, names in told.items() if names]
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    limits = "".join(f"<li>{escape(limit)}</li>" for limit in knowledge.limits)
    if limits:
        limits = f"<p>What it can't do:</p><ul>{limits}</ul>"
    summary = "the model: what it was trained on" + " and can't do" * bool(limits)
    return f"""<details class="model"><summary>{summary}</summary>
<p><b>{escape(name)}</b> was trained on {counted(knowledge.pairs, "pair")}{of}:</p><ul>{items}</ul>{limits}</details>"""


def _download(around: Surroundings) -> str:
    """A link to all sounds as one file, or how to get it."""
    if around.archive:
        return (
            f'<p><a href="{link(around.archive)}" download>all sounds as one file</a> ({size(around.sound_bytes)})</p>'
        )
    if around.sound_bytes:
        needed = -(-around.sound_bytes // 10**6)
        return (
            f'<p class="soft">{size(around.sound_bytes)} of sounds; one file of all: <code>--zip_mb {needed}</code></p>'
        )
    return ""


def by_song(results: Sequence[Result]) -> list[list[Result]]:
    """Results of one song together; what is painted into another result follows it. Else the order is kept.

    A song is known by its name and length: without a stem it has other samples.
    """
    named = {result.name: result for result in results}
    below: dict[str, list[Result]] = {}
    songs: dict[tuple[str, float], list[Result]] = {}
    for result in results:
        if _below(result) in named:
            below.setdefault(_below(result), []).append(result)
        else:
            songs.setdefault((result.title, result.seconds), []).append(result)

    def with_those_on_it(result: Result) -> list[Result]:
        return [result, *(one for above in below.get(result.name, []) for one in with_those_on_it(above))]

    return [[one for result in song for one in with_those_on_it(result)] for song in songs.values()]


def _below(result: Result) -> str:
    """The name of the result that this one is painted into, "" if it is painted into a song."""
    return result.settings.get("onto") or ""


def _song(results: Sequence[Result], levels: dict[str, float]) -> str:
    """All results of a song, under its name if there are several."""
    if len(results) == 1:
        return _result(results[0], results[0].title, levels)
    sections = "\n".join(_result(result, result.name, levels) for result in results)
    heading = f'<h2>{escape(results[0].title)} <span class="soft">{len(results)} edits</span></h2>'
    return f'<section class="song">\n{heading}\n{sections}\n</section>'


def _result(result: Result, heading: str, levels: dict[str, float]) -> str:
    asked = f'<span class="task">{escape(result.task)}</span> ' if result.task else ""
    attempts = len(result.attempts)
    kept = f'<p class="soft">attempt {result.kept} kept, of 0 to {attempts - 1}</p>' if attempts > 1 else ""
    onto = f'<p class="soft">painted into the result of {escape(below)}</p>' if (below := _below(result)) else ""
    known = [levels.get(sound_address(result, track), -np.inf) for track in result.tracks]
    gains = matching_gains(known)
    tracks = "\n".join(_track(result, track, gain) for track, gain in zip(result.tracks, gains, strict=True))
    picks = "".join(
        f'<button class="pick" title="play this one (key {number})">{escape(track.name)}</button>'
        for number, track in enumerate(result.tracks, start=1)
    )
    notes = "".join(f'<p class="warning">{escape(note)}</p>' for note in _notes(result))
    long = " long" * (result.seconds > LONG_SECONDS)
    return f"""<section class="sample{long}" data-seconds="{result.seconds:.6f}" data-columns="{result.columns}">
<h2>{escape(heading)} {_badge(result.measured.verdict)}</h2>
<p class="prompt">{asked}{escape(result.prompt) or '<span class="soft">(no instruction)</span>'}</p>
{notes}{onto}{kept}<div class="transport">{transport(picks)}</div>
<div class="tracks">
{tracks}
</div>
<details><summary>animated comparison</summary><img src="{link(result.name, result.comparison)}" alt="" loading="lazy">
</details>
<details><summary>measured</summary>{table(_measurements(result))}{table(_attempts(result))}</details>
<details><summary>settings</summary>{table(_settings(result))}</details>
</section>"""


def _notes(result: Result) -> list[str]:
    """What is to be known before listening: why the edit wasn't performed, and what the model can't know."""
    notes = [f"not performed: {', '.join(reasons)}"] if (reasons := why_not(result)) else []
    if unknown := ", ".join(result.never_heard):
        notes.append(f"never heard by the model: {unknown}; no verdict says whether it sounds like that")
    return notes


def _badge(verdict: Verdict) -> str:
    """A verdict in words; nothing where there is none."""
    if verdict is Verdict.UNKNOWN:
        return ""
    text = "edit performed" if verdict is Verdict.PERFORMED else "edit not performed"
    return f'<span class="verdict {verdict.value}"{hint("edit performed")}>{text}</span>'


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
    return [{SETTING: name, "value": value} for name, value in shown.items()]


def _track(result: Result, track: Track, gain: float) -> str:
    sound, picture = (link(result.name, name) for name in (track.sound, track.picture))
    ticks = "".join(f'<span style="left:{place:.2f}%">{label}</span>' for place, label in time_ticks(result.seconds))
    pitches = "".join(
        f'<span style="top:{place:.2f}%">{label}</span>'
        for place, label in pitch_ticks(result.min_frequency, result.max_frequency)
    )
    return f"""<figure class="track">
<figcaption><b>{escape(track.name)}</b>{player(sound, gain)}<a href="{sound}" download>save</a></figcaption>
<div class="graph">
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
