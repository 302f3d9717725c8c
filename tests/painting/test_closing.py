import pytest
from test_results import record, result

from riffusion.painting.closing import closing_text, in_order_of_pages
from riffusion.painting.options import PaintOptions
from riffusion.painting.page import results_page


def one(name: str, text: float = 2.0, **measured: object) -> dict:
    content = record(**{"backing samples changed": 0, "limited dB": 0.0} | measured)
    content["settings"] |= {"guidance_scale": text}
    return content | {"sample": name, "title": "Song", "task": "add"}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_only_what_is_in_the_table_is_explained_in_a_line_each():
    text = closing_text([result(one("a"))], PaintOptions())
    table, legend = text.split("\n\n")
    assert table.splitlines()[0].split("  ") == ["result", "task", "edit performed", "stem level dB", "active %"]
    assert [line.split(":")[0] for line in legend.splitlines()] == table.splitlines()[0].split("  ")
    alone = closing_text([result(one("a"))], PaintOptions(output="a.wav"))
    assert "folder" in text and "folder" not in alone


def test_trouble_is_a_column_where_there_is_some():
    contents = [one("a"), one("b", **{"limited dB": 2.0, "samples cut": 7}) | {"never heard": ["violin"]}]
    text = closing_text([result(content) for content in contents], PaintOptions())
    headings = [line for line in text.splitlines() if line.startswith(("result ", "answer "))]
    assert [name for line in headings for name in ("limited dB", "samples cut", "never heard") if name in line] == [
        "limited dB",
        "samples cut",
        "never heard",
    ]
    assert not [name for name in ("backing samples", "voiced", "pitch", "overtones") if name in text]


def test_why_edits_failed_is_said_of_each_and_what_to_do_once():
    contents = [one("a"), *(one(name, **{"edit performed": "no", "stem level dB": -25.0}) for name in ("b", "c"))]
    found = [result(content) for content in contents]
    text = closing_text(found, PaintOptions(retries=1))
    for name in ("b", "c"):
        assert f"\n{name}: not performed: stem level dB -25.00 (needs -20 to 18)" in text
    assert "\na: not" not in text
    assert text.count("--retries 4") == text.count("--num_candidates 4") == text.count("--overwrite") == 1
    assert max(map(len, text.splitlines())) <= 80
    assert "--retries" not in closing_text(found[:1], PaintOptions())


def test_rows_stand_as_on_the_page():
    contents = [one("z"), one("a") | {"title": "Other"}, one("m"), one("b")]
    contents[3]["settings"]["onto"] = "z"
    found = [result(content) for content in contents]
    names = [shown.name for shown in in_order_of_pages(found, is_search=False)]
    assert names == ["a", "m", "z", "b"]
    by_name = results_page(sorted(found, key=lambda shown: shown.name), [])
    places = [by_name.index(f'src="{name}/input.wav"') for name in names]
    assert places == sorted(places)
    text = closing_text(found, PaintOptions())
    assert [line.split()[0] for line in text.split("\n\n")[0].splitlines()[1:]] == names


def test_a_search_says_the_guidance_of_what_failed_and_goes_by_guidance():
    contents = [one(name, text, **{"edit performed": "no", "voiced %": 1.0}) for text in (5.0, 1.0) for name in "ba"]
    options = PaintOptions(guidance_scale=(5.0, 1.0))
    text = closing_text([result(content) for content in contents], options)
    told = [line.split(":")[0] for line in text.splitlines() if "not performed:" in line]
    assert told == [f"{name} (text {scale}, image 1.5)" for scale in (1, 5) for name in "ab"]
