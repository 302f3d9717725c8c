"""What an instruction can ask of a clip, and what the answer is made of."""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from riffusion.audio import add_on_top

TASKS = ("add", "remove", "extract", "keep")
SEPARATING = ("remove", "extract")  # tasks about a stem that the input holds already
TASK_WEIGHTS = {"add": 3.0, "remove": 1.0, "extract": 1.0, "keep": 0.5}  # how often each is drawn where all can be

Stems = frozenset[str]


@dataclass(frozen=True)
class Edit:
    """One thing to ask for. "keep" asks for no change and paints no stem: its `stem` is ""."""

    task: str
    stem: str = ""

    def painted(self) -> Stems:
        """The stems that a model with target "stem" paints: the stem that comes, goes or stays alone, or nothing."""
        return frozenset({self.stem} if self.stem else ())

    def result(self, backing: Stems) -> Stems:
        """The stems that are heard after the edit; the pictures of target "mix" show them."""
        if self.task == "extract":
            return self.painted()
        return backing - {self.stem} if self.task == "remove" else backing | self.painted()


def apply_edit(task: str, original: np.ndarray, stem: np.ndarray) -> np.ndarray:
    """What is heard after the edit: input + stem, input - stem ("remove") or the stem alone ("extract")."""
    if task == "extract":
        return stem
    return original - stem if task == "remove" else original + stem


def apply_edit_exactly(
    task: str, original: np.ndarray, stem: np.ndarray, bits: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """`apply_edit` of integer samples; also the stem that the result really holds, and how often it had to give way."""
    if task == "extract":
        return stem, stem, 0
    sign = -1 if task == "remove" else 1
    result, change, limited = add_on_top(original, sign * stem, bits)
    return result, sign * change, limited


def changed_stem(task: str, original: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The stem that an edit is about, from how it changes the input: the inverse of `apply_edit`."""
    if task == "extract":
        return original + change
    return -change if task == "remove" else change


def possible_edits(backing: Stems, paintable: Stems, tasks: tuple[str, ...]) -> list[Edit]:
    """Every edit that can be asked: stems to add are not in the backing, stems to take away are not all of it."""
    edits = [Edit("add", stem) for stem in sorted(paintable - backing)]
    if len(backing) > 1:
        edits += [Edit(task, stem) for task in SEPARATING for stem in sorted(paintable & backing)]
    return [edit for edit in [*edits, Edit("keep")] if edit.task in tasks]


def draw_edits(edits: list[Edit], rng: random.Random) -> list[Edit]:
    """A random order of `edits` in which the second paints another stem than the first: only the text tells them apart.

    Tasks come by `TASK_WEIGHTS` (Efraimidis and Spirakis 2006: the largest of u ** (1 / weight) comes first).
    """
    tasks = [edit.task for edit in edits]
    keys = {edit: rng.random() ** (tasks.count(edit.task) / TASK_WEIGHTS[edit.task]) for edit in edits}
    first, *others = sorted(edits, key=keys.__getitem__, reverse=True)
    second = next((edit for edit in others if edit.stem != first.stem), None)
    return [first, *sorted(others, key=lambda edit: edit is not second)]


def draw_backings(
    sounding: Stems, paintable: Stems, tasks: tuple[str, ...], subset_prob: float, rng: random.Random
) -> Iterator[tuple[Stems, list[Edit]]]:
    """Different backings of a clip with the edits they offer, at random, until no other has an edit that paints
    (or, where nothing but "keep" is asked, until no other is left).

    With `subset_prob` each is any set of stems that sound, else all stems but one that can be painted (all stems where
    "add" isn't among the tasks).
    """
    backings = _Backings(sounding, paintable, tasks)
    full = {sounding - {stem} for stem in paintable} if "add" in tasks else {sounding}
    full_ranks = sorted(backings.rank(some) for some in full if backings.offers_some(some))
    drawn: list[int] = []
    while len(drawn) < backings.number:
        if rng.random() < subset_prob:
            rank = rng.choice(range(backings.number - len(drawn)))
            for earlier in sorted(drawn):
                rank += rank >= earlier  # the ranks that are left, counted without the drawn ones
        elif choices := [rank for rank in full_ranks if rank not in drawn]:
            rank = rng.choice(choices)
        elif subset_prob == 0:
            return
        else:
            continue
        drawn.append(rank)
        backing = backings[rank]
        yield backing, possible_edits(backing, paintable, tasks)


class _Backings:
    """All backings of a clip that have an edit that paints (all at all, if only "keep" is asked), never listed.

    They are counted from 0, smaller ones first and those of a size as `itertools.combinations` of the sorted names has
    them. Such an order can be entered anywhere, with nothing but binomial coefficients (Knuth, The Art of Computer
    Programming 4A, 7.2.1.3).
    """

    def __init__(self, sounding: Stems, paintable: Stems, tasks: tuple[str, ...]):
        self.names, self.paintable, self.tasks = sorted(sounding), paintable, tasks
        self.by_size = [self._count(frozenset(), self.names, size) for size in range(len(self.names) + 1)]
        self.number = sum(self.by_size)

    def __getitem__(self, rank: int) -> Stems:
        size = next(size for size, upto in enumerate(itertools.accumulate(self.by_size)) if rank < upto)
        rank -= sum(self.by_size[:size])
        chosen: Stems = frozenset()
        for place, name in enumerate(self.names):
            with_it = self._count(chosen | {name}, self.names[place + 1 :], size)
            if rank < with_it:
                chosen |= {name}
            else:
                rank -= with_it
        return chosen

    def rank(self, backing: Stems) -> int:
        """The number of a backing, so that `self[number]` is it."""
        rank = sum(self.by_size[: len(backing)])
        chosen: Stems = frozenset()
        for place, name in enumerate(self.names):
            if name in backing:
                chosen |= {name}
            else:
                rank += self._count(chosen | {name}, self.names[place + 1 :], len(backing))
        return rank

    def offers_some(self, backing: Stems) -> bool:
        """Whether a set of stems is one of these backings."""
        return self._count(backing, [], len(backing)) == 1

    def _count(self, chosen: Stems, others: list[str], size: int) -> int:
        """How many backings of `size` stems there are that hold `chosen` and beside it only some of `others`."""
        more = size - len(chosen)
        if more < 0 or size == 0:
            return 0
        every = math.comb(len(others), more)
        adds, takes = "add" in self.tasks, size > 1 and not {*SEPARATING}.isdisjoint(self.tasks)
        if set(self.tasks) == {"keep"}:
            return every
        if not self.paintable or not (adds or takes):
            return 0
        if adds and takes:
            return every
        missing = self.paintable - chosen
        if takes:  # without any stem that could be taken away
            offerless = math.comb(len(set(others) - missing), more)
            return every - (offerless if missing == self.paintable else 0)
        if missing.issubset(others) and len(missing) <= more:  # nothing would be left to add
            return every - math.comb(len(others) - len(missing), more - len(missing))
        return every
