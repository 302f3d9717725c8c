import itertools
import pickle
import random
import tracemalloc

import numpy as np
import pytest

from riffusion.pairs import tasks
from riffusion.pairs.tasks import (
    ADD,
    EXTRACT,
    KEEP,
    REMOVE,
    TASKS,
    Edit,
    Success,
    Task,
    draw_backings,
    draw_edits,
    possible_edits,
    task_named,
)
from riffusion.util.errors import UserError

BAND = frozenset({"vocals", "bass", "drums", "other"})


def test_what_a_clip_can_be_asked():
    backing = frozenset({"bass", "drums"})
    asked = set(possible_edits(backing, BAND - {"other"}, TASKS))
    taken = {Edit(task, stem) for task in (REMOVE, EXTRACT) for stem in backing}
    assert asked == {Edit(ADD, "vocals"), *taken, Edit(KEEP)}
    alone = possible_edits(frozenset({"bass"}), BAND, TASKS)
    assert {edit.task for edit in alone} == {ADD, KEEP}  # nothing would be left


def test_an_edits_result():
    backing = frozenset({"bass", "drums"})
    results = {
        Edit(ADD, "vocals"): backing | {"vocals"},
        Edit(REMOVE, "bass"): {"drums"},
        Edit(EXTRACT, "bass"): {"bass"},
        Edit(KEEP): backing,
    }
    for edit, result in results.items():
        assert edit.result(backing) == result


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_a_stem_and_the_change_it_makes_belong_together(task):
    original, stem = np.arange(8, dtype=np.float32), np.linspace(-1, 1, 8, dtype=np.float32)
    change = task.apply(original, stem) - original
    assert task.stem_of_change(original, change) == pytest.approx(stem, abs=1e-6)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_integer_edits_are_exact_and_give_way_at_the_edge(task):
    original = np.array([[30000, -30000, 100, 0]], dtype=np.int32)
    stem = np.array([[10000, 10000, 50, -7]], dtype=np.int32)
    result, fitting, limited = task.apply_to_integers(original, stem, 16)
    assert (task.apply(original, fitting) == result).all()
    assert np.abs(result).max() <= 32768
    assert limited == (0 if task == EXTRACT else 1)


def test_a_name_is_a_task_or_an_error():
    assert [task_named(task.name) for task in TASKS] == list(TASKS)
    assert pickle.loads(pickle.dumps(TASKS)) == TASKS  # processes of a pool compare them
    with pytest.raises(UserError, match="'swap' is not one of the tasks add, remove, extract, keep"):
        task_named("swap")


def test_a_task_of_its_own_needs_nothing_but_its_object(monkeypatch):
    replace = Task("replace", 1.0, Success.NEW_PART, keeps_input=False)  # everything goes, and something new comes
    monkeypatch.setattr(tasks, "TASKS", (*TASKS, replace))
    assert task_named("replace") == replace
    offered = possible_edits(frozenset({"bass", "drums"}), BAND, (replace,))
    assert offered == [Edit(replace, "other"), Edit(replace, "vocals")]
    assert offered[0].result(frozenset({"bass", "drums"})) == {"other"}
    backings = {backing for backing, _ in draw_backings(BAND, BAND, (replace,), 0.5, random.Random(0))}
    assert len(backings) == 14  # all but the whole band and none


def test_the_first_two_edits_of_a_backing_paint_different_stems():
    edits = possible_edits(frozenset({"bass", "drums"}), BAND, TASKS)
    for seed in range(200):
        drawn = draw_edits(edits, random.Random(seed))
        assert sorted(map(str, drawn)) == sorted(map(str, edits))
        assert drawn[0].stem != drawn[1].stem


def test_adding_is_asked_most():
    edits = possible_edits(BAND - {"vocals"}, BAND, TASKS)
    first = [draw_edits(edits, random.Random(seed))[0].task for seed in range(500)]
    assert 0.45 < first.count(ADD) / 500 < 0.65  # 3 of 5.5, though it is one edit of eight


def test_backings_are_all_but_one_stem_or_any():
    def backings(subset_prob: float, number: int) -> list[frozenset]:
        drawn = (draw_backings(BAND, BAND, TASKS, subset_prob, random.Random(seed)) for seed in range(300))
        return [backing for group in drawn for backing, _ in itertools.islice(group, number)]

    assert {len(backing) for backing in backings(0.0, 1)} == {3}
    assert {len(backing) for backing in backings(1.0, 1)} == {1, 2, 3, 4}
    every = backings(0.0, 100)
    assert len(every) == 300 * 4
    assert 0.5 < np.mean([len(backing) == 3 for backing in backings(0.5, 1)]) < 0.75


def test_a_single_stem_or_a_quiet_clip_offers_nothing():
    rng = random.Random(0)
    assert not list(draw_backings(frozenset({"bass"}), frozenset({"bass"}), TASKS, 0.5, rng))
    assert not list(draw_backings(BAND, frozenset(), TASKS, 0.5, rng))


def test_keeping_can_be_asked_alone_but_makes_no_backing_of_its_own_beside_others():
    rng = random.Random(0)
    assert len(list(draw_backings(BAND, BAND, (KEEP,), 0.5, rng))) == 15
    backings = [backing for backing, _ in draw_backings(BAND, BAND, (ADD, KEEP), 0.5, rng)]
    assert BAND not in backings


@pytest.mark.parametrize("asked", [TASKS, (ADD,), (EXTRACT,), (ADD, KEEP), (REMOVE, KEEP), (KEEP,)])
@pytest.mark.parametrize("paintable", ["", "b", "ad", "bce", "abcde", "bz", "z"])
def test_every_backing_that_offers_something_is_drawn_once(asked, paintable):
    sounding, paintable = frozenset("abcde"), frozenset(paintable)
    sets = [frozenset(some) for size in range(1, 6) for some in itertools.combinations("abcde", size)]
    offers = {some: possible_edits(some, paintable, asked) for some in sets}
    expected = {some for some in sets if any(edit.stem for edit in offers[some]) or asked == (KEEP,)}
    drawn = list(draw_backings(sounding, paintable, asked, 0.5, random.Random(3)))
    assert len(drawn) == len(expected)
    assert {backing for backing, _ in drawn} == expected
    assert all(edits == offers[backing] for backing, edits in drawn)


def test_a_seed_draws_the_backings_that_it_always_drew():
    """Data that was made before goes on with the same pairs."""
    drawn = list(itertools.islice(draw_backings(BAND, BAND, TASKS, 0.5, random.Random(0)), 6))
    assert ["+".join(sorted(backing)) for backing, _ in drawn] == [
        "drums+other+vocals",
        "drums+vocals",
        "bass+drums+other+vocals",
        "bass+drums+vocals",
        "vocals",
        "bass+other+vocals",
    ]
    drawn = list(itertools.islice(draw_backings(BAND, frozenset({"bass"}), (ADD,), 0.5, random.Random(7)), 9))
    assert ["+".join(sorted(backing)) for backing, _ in drawn] == [
        "other",
        "drums",
        "drums+other+vocals",
        "vocals",
        "drums+other",
        "drums+vocals",
        "other+vocals",
    ]


def test_many_stems_cost_a_few_sums_and_no_list():
    class Counting(random.Random):
        calls = 0

        def random(self) -> float:
            self.calls += 1
            return super().random()

    orchestra = frozenset(f"stem {number}" for number in range(24))
    rng = Counting(0)
    tracemalloc.start()
    drawn = [backing for backing, _ in itertools.islice(draw_backings(orchestra, orchestra, TASKS, 0.5, rng), 200)]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(drawn)) == 200
    assert {len(backing) == 23 for backing in drawn} == {True, False}
    assert rng.calls < 2000
    assert most < 4e6  # bytes; a list of all sets would take 2 GB
    assert 10 < np.mean([len(backing) for backing in drawn if len(backing) < 23]) < 14
