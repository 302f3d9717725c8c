"""What an instruction can ask of a clip, and what the result is made of."""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from riffusion.util.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Stems = frozenset[str]


class Success(Enum):
    """What has to be heard in a painted stem for its task to count as done."""

    NEW_PART = "a part that the input doesn't have, and that sounds like the stem asked for"
    SILENCE = "nothing"
    UNKNOWN = "can't be told without the true stem"


@dataclass(frozen=True)
class Task:
    """One kind of edit: result = input + sign * stem, without the input where `keeps_input` is False.

    What differs between tasks is told here and nowhere else, but for their words: phrases in prompts/templates.json
    and verbs in prompts/task_words.json, both by `name`.
    """

    name: str  # in datasets, results and on command lines
    weight: float  # how often it is drawn, where every task can be
    success: Success
    sign: int = 1  # of the stem in the result
    keeps_input: bool = True  # whether the input is heard in the result
    takes_from_input: bool = False  # whether the stem is one that the input holds already; else it is a new one
    has_stem: bool = True  # whether it is about a stem at all

    def __str__(self) -> str:
        return self.name

    @property
    def brings_stem(self) -> bool:
        """Whether its stem is one that the input doesn't hold yet."""
        return self.has_stem and not self.takes_from_input

    def stems_offered(self, backing: Stems, paintable: Stems) -> Stems:
        """The stems that it can be asked of; it doesn't take away all that is heard. {""} if it is about none."""
        if not self.has_stem:
            return frozenset({""})
        if self.brings_stem:
            return paintable - backing
        return paintable & backing if len(backing) > 1 else frozenset()

    def stems_after(self, backing: Stems, stem: str) -> Stems:
        """The stems that are heard after the edit."""
        painted = frozenset({stem} if stem else ())
        kept = backing if self.keeps_input else frozenset()
        return kept | painted if self.sign > 0 else kept - painted

    def apply(self, original: "np.ndarray", stem: "np.ndarray") -> "np.ndarray":
        """What is heard after the edit, or its magnitudes: two arrays of one shape and type, and so is the result."""
        change = stem if self.sign > 0 else -stem
        return original + change if self.keeps_input else change

    def apply_to_integers(
        self, original: "np.ndarray", stem: "np.ndarray", bits: int
    ) -> "tuple[np.ndarray, np.ndarray, int]":
        """`apply` to samples of `bits` bits, int64 of one shape; where the result would clip, the stem gives way.

        Returns the result, the stem that it really holds, and in how many samples that gave way.
        """
        from riffusion.audio import add_on_top  # flags need the names alone, and at once

        if not self.keeps_input:
            return self.sign * stem, stem, 0
        result, change, gave_way = add_on_top(original, self.sign * stem, bits)
        return result, self.sign * change, gave_way

    def stem_of_change(self, original: "np.ndarray", change: "np.ndarray") -> "np.ndarray":
        """The stem that an edit is about, from result - input (arrays of one shape): the inverse of `apply`."""
        made = change if self.keeps_input else original + change
        return made if self.sign > 0 else -made


ADD = Task("add", 3.0, Success.NEW_PART)
REMOVE = Task("remove", 1.0, Success.UNKNOWN, sign=-1, takes_from_input=True)
EXTRACT = Task("extract", 1.0, Success.UNKNOWN, keeps_input=False, takes_from_input=True)
KEEP = Task("keep", 0.5, Success.SILENCE, has_stem=False)
TASKS = (ADD, REMOVE, EXTRACT, KEEP)


def task_named(name: str) -> Task:
    """The task of a name, as datasets and command lines have it. Raises UserError if there is none."""
    for task in TASKS:
        if task.name == name:
            return task
    raise UserError(f"{name!r} is not one of the tasks {', '.join(map(str, TASKS))}")


@dataclass(frozen=True)
class Edit:
    """One thing to ask for; `stem` is "" where the task is about none."""

    task: Task
    stem: str = ""

    def __str__(self) -> str:
        return f"{self.task} {self.stem}".strip()

    def painted(self) -> Stems:
        """The stems that a model with target "stem" paints: the stem that comes, goes or stays alone, or nothing."""
        return frozenset({self.stem} if self.stem else ())

    def result(self, backing: Stems) -> Stems:
        """The stems that are heard after the edit; the pictures of target "mix" show them."""
        return self.task.stems_after(backing, self.stem)


def possible_edits(backing: Stems, paintable: Stems, tasks: tuple[Task, ...]) -> list[Edit]:
    """Every edit that can be asked, in the order of `TASKS` whatever that of `tasks` is."""
    offered = [task for task in TASKS if task in tasks]
    return [Edit(task, stem) for task in offered for stem in sorted(task.stems_offered(backing, paintable))]


def draw_edits(edits: list[Edit], rng: random.Random) -> list[Edit]:
    """A random order in which the second edit paints another stem than the first: only the text tells them apart."""
    first, *others = weighted_order(edits, rng)
    second = next((place for place, edit in enumerate(others) if edit.stem != first.stem), None)
    return [first, *others] if second is None else [first, others.pop(second), *others]


def weighted_order(edits: list[Edit], rng: random.Random) -> list[Edit]:
    """A random order in which a task is first as often as its weight says, however many edits it has.

    Efraimidis and Spirakis 2006: the largest of u ** (1 / weight) comes first.
    """
    tasks = [edit.task for edit in edits]
    keys = {edit: rng.random() ** (tasks.count(edit.task) / edit.task.weight) for edit in edits}
    return sorted(edits, key=keys.__getitem__, reverse=True)


def draw_backings(
    sounding: Stems, paintable: Stems, tasks: tuple[Task, ...], subset_prob: float, rng: random.Random
) -> Iterator[tuple[Stems, list[Edit]]]:
    """Different backings of a clip with the edits they offer, at random, until no other has an edit that paints
    (or, where no task is about a stem, until no other is left).

    With `subset_prob` each is any set of stems that sound, else all stems but one that can be painted (all stems where
    no task brings one).
    """
    backings = _Backings(sounding, paintable, tasks)
    full = {sounding - {stem} for stem in paintable} if any(task.brings_stem for task in tasks) else {sounding}
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
    """All backings of a clip that have an edit that paints (all at all, if no task is about a stem), never listed.

    They are counted from 0, smaller ones first and those of a size as `itertools.combinations` of the sorted names has
    them. Such an order can be entered anywhere, with nothing but binomial coefficients (Knuth, The Art of Computer
    Programming 4A, 7.2.1.3).
    """

    def __init__(self, sounding: Stems, paintable: Stems, tasks: tuple[Task, ...]):
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
        adds = any(task.brings_stem for task in self.tasks)
        takes = size > 1 and any(task.takes_from_input for task in self.tasks)
        if not any(task.has_stem for task in self.tasks):
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
