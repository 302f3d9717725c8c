import math

import numpy as np
import pytest

from riffusion.util import files, tables

MEASURED = {
    "result": "song-add-a-soft-female-vocal",
    "edit performed": "yes",
    "stem level dB": -1.234,
    "active %": 80.0,
    "voiced %": None,
    "median pitch Hz": math.nan,
    "limited dB": 0.0,
    "backing samples changed": 0,
}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (math.nan, "-"),
        (-math.inf, "-"),
        (np.float32("nan"), "-"),
        (True, "yes"),
        (np.bool_(False), "no"),
        (12, "12"),
        (-1.234, "-1.23"),
        (0.0, "0.00"),
        (0.00042, "0.00042"),
        (np.float64(97.6), "97.60"),
        ("two\nlines", "two lines"),
    ],
)
def test_a_value_looks_the_same_in_every_table(value, text):
    assert tables.cell_text(value) == text
    assert tables.table([{"name": value}], width=80).splitlines()[1] == text
    assert tables.markdown_table([{"name": value}]).splitlines()[2] == f"| {text} |"


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_table_fits_and_no_value_is_cut(width):
    rows = [MEASURED, MEASURED | {"result": "other", "stem level dB": 2.5}]
    text = tables.table(rows, width)
    assert max(map(len, text.splitlines())) <= width
    flat = " ".join(text.split())
    for row in rows:
        for name, value in row.items():
            assert tables.cell_text(value) in flat
            assert name in flat or name == "result"


def test_columns_that_do_not_fit_follow_below_with_the_first_one_again():
    rows = [{"model": "a", "first figure": 1.0, "second figure": 2.0}]
    assert tables.table(rows, width=80).splitlines() == [
        "model  first figure  second figure",
        "a      1.00          2.00",
    ]
    assert tables.table(rows, width=24).splitlines() == [
        "model  first figure",
        "a      1.00",
        "",
        "model  second figure",
        "a      2.00",
    ]


def test_a_name_as_wide_as_the_terminal_makes_paragraphs():
    rows = [{"model": "m" * 25, "first figure": 1.0, "second figure": 2.0}]
    text = tables.table(rows, width=30)
    assert text.splitlines() == ["m" * 25, "  first figure: 1.00;", "  second figure: 2.00"]


def test_the_terminal_says_how_wide_a_table_may_be(monkeypatch):
    for columns in ("60", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        assert max(map(len, tables.table([MEASURED]).splitlines())) <= int(columns)
    assert len(tables.table([MEASURED]).splitlines()) == 2


def test_rows_of_different_shape_share_a_table():
    rows = [{"task": "add", "level": 1.0}, {"task": "keep", "voiced": 2.0}]
    assert tables.table(rows, width=80).splitlines() == ["task  level  voiced", "add   1.00   -", "keep  -      2.00"]
    assert tables.markdown_table(rows).splitlines()[2:] == ["| add | 1.00 | - |", "| keep | - | 2.00 |"]


def test_a_bar_in_a_value_ends_no_cell_of_markdown():
    assert tables.markdown_table([{"prompt": "a|b"}]).splitlines()[2] == r"| a\|b |"


def test_of_a_path_only_the_last_part_is_published():
    values = ("/home/me/pairs", "/home/me/pairs/", "pairs", "zachary-shah/model")
    assert [files.without_folders(value).rstrip("/") for value in values] == ["pairs", "pairs", "pairs", values[3]]
