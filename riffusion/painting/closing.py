"""What a painting run says at its end: tables, what their columns mean, what went wrong, and what to do about it."""

from collections.abc import Sequence

from riffusion.painting import columns
from riffusion.painting.options import PaintOptions
from riffusion.painting.page import by_song
from riffusion.painting.result import Result
from riffusion.painting.summary import (
    TROUBLES,
    best_guidance,
    by_guidance,
    result_row,
    search_rows,
    summary_rows,
    why_not,
)
from riffusion.util.tables import filled, table

DETAILS = ("voiced %", "pitch Hz")
MORE_ATTEMPTS = 3  # that are advised


def closing_text(results: Sequence[Result], options: PaintOptions) -> str:
    """One row per result, in the pages' order, the table over all, what the columns mean, and advice."""
    results = in_order_of_pages(results, options.is_search)
    shown = [[result_row(result, options.is_search) for result in results]]
    if len(results) > 1:
        overall = search_rows(results) if options.is_search else summary_rows(results)
        shown.append([without_details(row) for row in overall])
    explained = shown
    if options.writes_files_only:  # and no folder
        explained = [[{name: row[name] for name in row if name != "result"} for row in rows] for rows in shown]
    parts = [*map(table, shown), columns.legend(explained), advice(results, options)]
    if options.is_search:
        parts.append(best_guidance(results))
    return "\n\n".join(filter(None, parts))


def in_order_of_pages(results: Sequence[Result], is_search: bool) -> list[Result]:
    """Results as the pages show them: by song, and in a search by guidance, which has a page each."""
    by_name = sorted(results, key=lambda result: result.name)
    groups = [group for _, group in sorted(by_guidance(by_name).items())] if is_search else [by_name]
    return [result for group in groups for song in by_song(group) for result in song]


def without_details(row: dict[str, object]) -> dict[str, object]:
    """A row over all results without measures that nobody acts on; those of trouble only where there is some."""
    return {name: value for name, value in row.items() if name not in DETAILS and (value or name not in TROUBLES)}


def advice(results: Sequence[Result], options: PaintOptions) -> str:
    """What each edit lacks that wasn't performed, and once what to do about it; empty if there is none."""
    missed = []
    for result in results:
        if reasons := why_not(result):
            text, image = result.guidance
            guidance = f" (text {text:g}, image {image:g})" if options.is_search else ""
            missed.append(f"{result.name}{guidance}: not performed: {', '.join(reasons)}")
    if not missed:
        return ""
    retries, candidates = options.retries + MORE_ATTEMPTS, options.num_candidates + MORE_ATTEMPTS
    again = "" if options.is_piped or options.overwrite else " with --overwrite"
    missed.append(
        f"try again{again}: --retries {retries} paints up to {retries} times more, until an edit is performed, "
        f"--num_candidates {candidates} keeps the best of {candidates}"
    )
    return "\n".join(map(filled, missed))
