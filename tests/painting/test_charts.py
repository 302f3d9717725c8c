import re
import xml.etree.ElementTree as ElementTree

import pytest

from riffusion.painting.charts import HEIGHT, LEFT, RIGHT, WIDTH, line_chart


def places(chart: str) -> list[list[tuple[float, float]]]:
    lines = re.findall(r'<polyline points="([^"]*)"', chart)
    return [[tuple(map(float, point.split(","))) for point in line.split()] for line in lines]


def test_points_are_where_their_values_say():
    chart = line_chart("performed %", "text guidance", {"1.5": [(5, 0), (10, 50), (15, 100)]}, bounds=(0, 100))
    ElementTree.fromstring(chart)
    ((left, middle, right),) = places(chart)
    assert (left[0], right[0]) == (LEFT, WIDTH - RIGHT)
    assert middle == pytest.approx(((left[0] + right[0]) / 2, (left[1] + right[1]) / 2), abs=0.1)
    assert HEIGHT > left[1] > right[1] > 0
    texts = re.findall(r">([^<>]+)</text>", chart)
    assert texts == ["5", "10", "15", "0", "50", "100", "performed %", "text guidance"]


def test_lines_are_told_apart_and_what_is_not_known_is_left_out():
    nan = float("nan")
    chart = line_chart("level", "image", {"a": [(1, -3), (2, nan), (3, -1)], "b<c": [(1, 0), (2, 2), (3, 1)]})
    ElementTree.fromstring(chart)
    assert [len(line) for line in places(chart)] == [2, 3]
    assert len(set(re.findall(r'stroke-dasharray="([^"]*)"', chart))) == 2
    assert "b&lt;c" in chart


def test_a_flat_line_is_in_the_picture_and_one_value_is_no_curve():
    for value in (0, 5, -5):
        ((first, second),) = places(line_chart("a", "b", {"": [(1, value), (2, value)]}))
        assert first[1] == second[1] and 0 < first[1] < HEIGHT
    assert line_chart("a", "b", {"x": [(1, 2)], "y": [(1, 3)]}) == ""
    assert line_chart("a", "b", {"x": [(1, float("nan")), (2, float("nan"))]}) == ""
