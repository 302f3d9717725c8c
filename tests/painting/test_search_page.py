import dataclasses
import re

from test_results import record, result

from riffusion.painting import summary
from riffusion.painting.search_page import grid_page


def cell(text: float, image: float, verdict: str = "yes", level: float = -1.0, **more: object) -> summary.Cell:
    measured = {"edit performed": verdict, "stem level dB": level, "backing samples changed": 0}
    content = record(**measured | more.pop("measured", {}))
    content["settings"] |= {"guidance_scale": text, "image_guidance_scale": image}
    content |= more
    return summary.Cell.of(f"text-{text:g}-image-{image:g}", "index.html", [result(content)])


def test_the_best_cell_has_most_edits_then_a_true_level_then_least_change_then_least_guidance():
    worst, loud, near = cell(5, 1.5, "no", -2.6), cell(10, 1.5, level=4.0), cell(15, 1.5, level=-2.0)
    best, reason = summary.best_cell([worst, loud, near])
    assert best is near
    assert reason == "most edits performed (100 %), then level nearest to true parts' -2.6 dB (-2.0 dB)"
    assert summary.best_cell([worst, loud]) == (loud, "most edits performed (100 %)")
    twin = cell(10, 2, level=-2.0)
    assert summary.best_cell([near, twin])[0] is twin
    assert summary.best_cell([near, twin])[1] == "least guidance"
    for name, words in (
        ("outside, grey levels", "change elsewhere (1.0"),
        ("backing samples changed", "backing changed (1"),
    ):
        little, much = (cell(scale, 1.5, measured={name: value}) for scale, value in ((15, 1), (5, 9)))
        best, reason = summary.best_cell([much, little])
        assert best is little and words in reason
    assert summary.best_cell([near]) == (near, "the only one")
    unjudged = [cell(scale, 1.5, "-", None) for scale in (3, 5)]
    assert summary.best_cell(unjudged)[0] is unjudged[0]


def test_the_level_of_the_true_parts_counts_where_it_is_known():
    controls = {"oracle": record(**{"stem level dB": 5.0})["measured"]}
    loud, soft = cell(10, 1.5, level=4.0, controls=controls), cell(15, 1.5, level=-2.0, controls=controls)
    assert summary.best_cell([soft, loud]) == (loud, "level nearest to true parts' 5.0 dB (4.0 dB)")


def test_the_page_says_what_was_painted_and_how_little_it_rests_on():
    loud, louder = cell(10, 1.5, level=3.5), cell(15, 1.5, level=9.0)
    html = grid_page([loud, louder])
    assert '<p class="prompt">add a vocal</p><p class="soft">song</p>' in html
    far = "the part is 6.1 dB louder than true parts are: --stem_gain_db -6 evens that out"
    assert summary.doubts(loud, [loud, louder]) == ["it rests on 1 sample: a hint only", far]
    assert html.count('<p class="warning">') == 2 and f'<p class="warning">{far}</p>' in html
    near = dataclasses.replace(loud, summary=dataclasses.replace(loud.summary, level_db=3.3, count=3))
    assert summary.doubts(near, [near, louder]) == []
    assert "<b>performed</b>" in html and "100.00 % performed" not in html
    failed = cell(3, 1.5, "no", level=-9.0)
    assert summary.doubts(failed, [failed])[1:] == [
        "no edit was performed",
        "the part is 6.4 dB softer than true parts are: --stem_gain_db 6 evens that out",
    ]
    assert "<b>not performed</b>" in grid_page([failed])
    many = [dataclasses.replace(loud, prompts=("a", "b"), titles=tuple("vwxyz"))]
    assert '<p class="prompt">a; b</p><p class="soft">v; w; x and 2 more</p>' in grid_page(many)
    assert "<b>50.00 % performed</b>" in grid_page([cell_of_two("yes", "no")])


def cell_of_two(*verdicts: str) -> summary.Cell:
    results = [result(record(**{"edit performed": verdict})) for verdict in verdicts]
    return summary.Cell.of("text-1", "index.html", results)


def test_the_page_draws_what_changes_with_each_scale_and_marks_the_best():
    cells = [cell(text, image, level=-text) for text in (1, 2, 4) for image in (1.5, 3)]
    html = grid_page(cells, {cells[0].input: -20.0, **{sound: -26.0 for one in cells for sound in one.sounds.values()}})
    charts = re.findall(r'aria-label="([^"]*)"', html)
    names = ("performed %", "level dB", "backing samples changed")
    assert charts == [f"{name} by {scale} guidance" for scale in ("text", "image") for name in names]
    assert html.count('<td class="cell best">') == html.count('<b class="mark">best</b>') == 1
    assert (
        "Best: text 2, image 1.5</b>: level nearest to true parts&#x27; -2.6 dB (-2.0 dB), then least guidance." in html
    )
    assert re.findall(r'data-gain="([^"]*)"', html) == ["0.501"] + ["1.000"] * 6
    assert html.count('class="pick"') == html.count("<audio")
    one_scale = grid_page([cell(text, 1.5) for text in (1, 2)])
    assert re.findall(r'aria-label="([^"]*)"', one_scale) == [f"{name} by text guidance" for name in names]
