"""Tables over many results: shares of edits performed and medians, by what was measured and by guidance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from riffusion.painting.measurements import BACKING_CHANGED, OUTSIDE, Measurements, Verdict
from riffusion.painting.metrics import shortfalls
from riffusion.painting.result import Result
from riffusion.pairs.instructions import asked_stem
from riffusion.pairs.tasks import task_named
from riffusion.util.tables import cell_text, filled

ACTED_ON = ("edit performed", "stem level dB", "active %", OUTSIDE)  # measures in the printed table
TROUBLES = ("limited dB", "samples cut", BACKING_CHANGED)  # those that are only printed where they aren't 0
USUAL_LEVEL_DB = -2.6  # median level of true parts, by the card of checkpoints/small
FAR_LEVEL_DB = 6.0  # from there: more than most true parts are
ORACLE = "oracle"  # the control row of true parts
SHARE = "performed %"
PAINTED = "painted"  # the row of what a model painted; the others are control rows


WORDS = {Verdict.PERFORMED: "performed", Verdict.FAILED: "not performed", Verdict.UNKNOWN: "no verdict"}


@dataclass(frozen=True)
class Summary:
    """Many measurements in one row: the share of edits performed among those with a verdict, and medians.

    NaN where nothing has a value; `outside_grey` and `backing_changed` are None where nothing was measured.
    """

    name: str
    count: int
    performed_percent: float
    level_db: float
    active_percent: float
    voiced_percent: float
    pitch_hz: float
    outside_grey: float | None
    backing_changed: float | None

    @classmethod
    def of(cls, name: str, measured: Sequence[Measurements]) -> "Summary":
        """The summary of measurements; `name` says what they were made of."""
        judged = [one.verdict is Verdict.PERFORMED for one in measured if one.verdict is not Verdict.UNKNOWN]
        return cls(
            name=name,
            count=len(measured),
            performed_percent=100 * float(np.mean(judged)) if judged else np.nan,
            level_db=median([one.level_db for one in measured]),
            active_percent=median([one.active_percent for one in measured]),
            voiced_percent=median([one.voiced_percent for one in measured]),
            pitch_hz=median([one.pitch_hz for one in measured]),
            outside_grey=median_if_any([one.outside_grey for one in measured]),
            backing_changed=median_if_any([one.backing_changed for one in measured]),
        )

    @property
    def verdict(self) -> Verdict:
        """The verdict on the only result."""
        return Verdict.of(None if np.isnan(self.performed_percent) else self.performed_percent > 0)

    @property
    def performed(self) -> str:
        """How many edits were performed, in words."""
        return WORDS[self.verdict] if self.count == 1 else f"{cell_text(self.performed_percent)} % performed"

    def row(self) -> dict[str, object]:
        """As benchmarks and guidance.json have it."""
        preserved = {OUTSIDE: self.outside_grey, BACKING_CHANGED: self.backing_changed}
        return {
            "answer": self.name,
            "samples": self.count,
            SHARE: self.performed_percent,
            "level dB": self.level_db,
            "active %": self.active_percent,
            "voiced %": self.voiced_percent,
            "pitch Hz": self.pitch_hz,
        } | {name: value for name, value in preserved.items() if value is not None}


def shown_rows(summaries: Sequence[Summary]) -> list[dict[str, object]]:
    """A table of summaries for people: where each is of one result, it says whether that edit was performed."""
    rows = [summary.row() for summary in summaries]
    if any(summary.count != 1 for summary in summaries):
        return rows
    return [
        {
            ("edit performed" if name == SHARE else name): value
            for name, value in (row | {SHARE: one.verdict.value}).items()
        }
        for row, one in zip(rows, summaries, strict=True)
    ]


def median(values: Sequence[float | None]) -> float:
    """The median of the values that are known and finite, NaN without any."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.median(known)) if known else np.nan


def median_if_any(values: Sequence[float | None]) -> float | None:
    """`median` of what was measured at all, None if it was nowhere."""
    return None if all(value is None for value in values) else median(values)


def painted_summary(results: Sequence[Result]) -> Summary:
    """What was painted, over all results."""
    return Summary.of(PAINTED, [result.measured for result in results])


def control_summaries(results: Sequence[Result]) -> list[Summary]:
    """The control rows: known pictures, each over the results that have it."""
    names = dict.fromkeys(name for result in results for name in result.controls)
    return [
        Summary.of(name, [result.controls[name] for result in results if name in result.controls]) for name in names
    ]


def summary_rows(results: Sequence[Result]) -> list[dict[str, object]]:
    """The table over all results: the control rows, then what was painted. Empty without results."""
    return shown_rows([*control_summaries(results), painted_summary(results)]) if results else []


def result_row(result: Result, is_search: bool) -> dict[str, object]:
    """A result's row: folder and task, guidance in a search, which attempt was kept if there were several, and those
    measures that somebody can act on; what is wrong only where it is.

    The folder is named without its parents: with standard input they are deleted afterwards.
    """
    row: dict[str, object] = {"result": result.name, "task": result.task}
    if is_search:
        row |= guidance_row(result)
    if len(result.attempts) > 1:
        row |= {"kept attempt": result.kept, "attempts": len(result.attempts)}
    measured = result.measured.row()
    row |= {name: measured[name] for name in ACTED_ON if name in measured}
    row |= {name: measured[name] for name in TROUBLES if measured.get(name)}
    return row | ({"never heard": ", ".join(result.never_heard)} if result.never_heard else {})


def why_not(result: Result) -> list[str]:
    """What a result whose edit wasn't performed lacks, in words; empty for others."""
    if not result.task:  # an earlier version's
        return []
    return shortfalls(result.measured, task_named(result.task), asked_stem(result.prompt))


def guidance_row(result: Result) -> dict[str, object]:
    """The guidance that a result was painted with, as tables show it."""
    text, image = result.guidance
    return {"text guidance": text, "image guidance": image}


def by_guidance(results: Sequence[Result]) -> dict[tuple[float, float], list[Result]]:
    """Results by text and image guidance."""
    groups: dict[tuple[float, float], list[Result]] = {}
    for result in results:
        groups.setdefault(result.guidance, []).append(result)
    return groups


def search_rows(results: Sequence[Result]) -> list[dict[str, object]]:
    """The table over a guidance search: the control rows, which have none, and what was painted with each guidance."""
    groups = by_guidance(results)
    blank: dict[str, object] = dict.fromkeys(("text guidance", "image guidance"))
    controls = control_summaries(next(iter(groups.values()), []))
    scales = [blank] * len(controls) + [guidance_row(group[0]) for group in groups.values()]
    rows = shown_rows([*controls, *map(painted_summary, groups.values())])
    return [{"answer": row["answer"]} | guidance | row for guidance, row in zip(scales, rows, strict=True)]


@dataclass(frozen=True)
class Cell:
    """One guidance of a search: its page, what was painted by which instructions into what, and what is seen and heard
    of its first result. Addresses are relative."""

    guidance_scale: float
    image_guidance_scale: float
    page: str
    prompts: tuple[str, ...]
    titles: tuple[str, ...]
    input: str  # its sound
    picture: str  # of the stem
    sounds: dict[str, str]  # by name
    seconds: float
    summary: Summary
    true_level_db: float  # of the true parts, NaN where nobody knows them

    @property
    def scales(self) -> tuple[float, float]:
        """Text and image guidance."""
        return self.guidance_scale, self.image_guidance_scale

    @classmethod
    def of(cls, folder: str, page: str, results: Sequence[Result]) -> "Cell":
        """The cell of the results in a folder, whose page there is called `page`."""
        first = results[0]
        text, image = first.guidance
        tracks = {track.name: track for track in first.tracks}
        return cls(
            guidance_scale=text,
            image_guidance_scale=image,
            page=f"{folder}/{page}",
            prompts=tuple(dict.fromkeys(one.prompt for one in results)),
            titles=tuple(dict.fromkeys(one.title for one in results)),
            input=f"{folder}/{first.name}/{first.tracks[0].sound}",
            picture=f"{folder}/{first.name}/{tracks['stem'].picture}",
            sounds={
                name: f"{folder}/{first.name}/{tracks[name].sound}" for name in ("painted", "stem") if name in tracks
            },
            seconds=first.seconds,
            summary=painted_summary(results),
            true_level_db=median([one.controls[ORACLE].level_db for one in results if ORACLE in one.controls]),
        )

    def to_json(self) -> dict[str, object]:
        """As guidance.json has it: the fields by name, and the summary as a table's row."""
        return vars(self) | {"summary": self.summary.row()}


def true_level(cells: Sequence[Cell]) -> float:
    """Level of the true parts in dB, or of true parts in general where nobody knows them."""
    known = median([cell.true_level_db for cell in cells])
    return USUAL_LEVEL_DB if np.isnan(known) else known


def best_cell(cells: Sequence[Cell]) -> tuple[Cell, str]:
    """The best cell of a search, and why: it is chosen by one measure after the other, until one is left.

    Measures are most edits performed, a level near to that of true parts, little change elsewhere, little guidance.
    """
    wanted = true_level(cells)
    left, reasons = list(cells), []
    for measure, words in (
        (lambda cell: -round(cell.summary.performed_percent), "most edits performed ({0.performed_percent:.0f} %)"),
        (
            lambda cell: round(abs(cell.summary.level_db - wanted)),
            f"level nearest to true parts' {wanted:.1f} dB ({{0.level_db:.1f}} dB)",
        ),
        (lambda cell: round(cell.summary.outside_grey, 1), "least change elsewhere ({0.outside_grey:.1f} grey levels)"),
        (lambda cell: cell.summary.backing_changed, "least of the backing changed ({0.backing_changed:.0f} samples)"),
        (lambda cell: cell.scales, "least guidance"),
    ):
        known = {cell.scales: value for cell in left if (value := _measure(measure, cell)) is not None}
        best = [cell for cell in left if known and known.get(cell.scales) == min(known.values())]
        if best and len(best) < len(left):
            left = best
            reasons.append(words.format(left[0].summary))
    return left[0], ", then ".join(reasons) or "the only one"


def doubts(best: Cell, cells: Sequence[Cell]) -> list[str]:
    """Why the best cell of a search need not be a good one, in words."""
    found = ["it rests on 1 sample: a hint only"] if best.summary.count == 1 else []
    found += ["no edit was performed"] if best.summary.performed_percent == 0 else []
    off = best.summary.level_db - true_level(cells)
    if abs(off) > FAR_LEVEL_DB:
        side = "louder" if off > 0 else "softer"
        found.append(
            f"the part is {abs(off):.1f} dB {side} than true parts are: --stem_gain_db {-off:.0f} evens that out"
        )
    return found


def best_guidance(results: Sequence[Result]) -> str:
    """The best guidance of a search's results, why it is, and why it need not be good, as lines for the terminal."""
    cells = [Cell.of("", "", group) for group in by_guidance(results).values()]
    best, reason = best_cell(cells)
    said = f"best: text guidance {best.guidance_scale:g}, image guidance {best.image_guidance_scale:g} ({reason})"
    said = "; ".join([said, *doubts(best, cells)])
    return filled(said)


def _measure(measure: Callable[[Cell], Any], cell: Cell) -> Any:
    """What a cell measures, None where that isn't known."""
    try:
        return measure(cell)
    except (TypeError, ValueError, OverflowError):  # of None, NaN and infinity
        return None
