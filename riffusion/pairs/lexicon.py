"""The words that instructions are read by: those of prompts/task_words.json, and what follows from them."""

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

from riffusion.pairs.tasks import ADD, TASKS, Task

WORDS = Path(__file__).resolve().parents[2] / "prompts" / "task_words.json"
MIN_TYPO_LETTERS = 4  # of a word that may be misspelt


@dataclass(frozen=True)
class Lexicon:
    """The groups of words in prompts/task_words.json, but for the verbs of tasks."""

    change: tuple[str, ...]  # verbs that ask for another sound of a part
    hear: tuple[str, ...]  # verbs of giving and hearing
    irregular: dict[str, str]  # past forms of verbs
    openers: frozenset[str]  # polite ones: "could you please"
    parts: frozenset[str]  # of music, in the singular
    not_parts: frozenset[str]  # properties of sound that are named like parts
    whole: frozenset[str]  # the music as a whole
    versions: frozenset[str]  # what may follow "instrumental" and "karaoke"
    stops: frozenset[str]  # words that end a noun phrase
    conjunctions: frozenset[str]
    definite: frozenset[str]  # articles and what stands for them
    indefinite: frozenset[str]
    quantifiers: frozenset[str]
    rest: frozenset[str]  # everything else
    band: frozenset[str]  # everything but the singer
    pronouns: frozenset[str]
    participles: frozenset[str]  # that describe a part after it
    without: frozenset[str]
    placing: frozenset[str]  # prepositions by which something is put over a part
    placed: frozenset[str]  # what may follow a verb's "in" or "on"
    partly: frozenset[str]  # a little
    places: frozenset[str]  # prepositions of "in this song"
    auxiliaries: frozenset[str]
    signs: frozenset[str]  # that a sentence wishes for something
    states: dict[Task, frozenset[str]]  # how a part is after a task: "off", "alone"


@functools.cache
def _content() -> dict:
    return json.loads(WORDS.read_text(encoding="utf-8"))


@functools.cache
def words() -> Lexicon:
    """All groups of words."""
    content = _content()
    lists = {name: group for name, group in content.items() if isinstance(group, list)}
    groups = {name: frozenset(group) for name, group in lists.items() if name not in ("change", "hear")}
    return Lexicon(
        change=tuple(content["change"]),
        hear=tuple(content["hear"]),
        irregular=content["irregular"],
        signs=frozenset(content[ADD.name]["signs"]),
        states={task: frozenset(content[task.name].get("states", ())) for task in TASKS},
        **groups,
    )


@dataclass(frozen=True)
class Verb:
    """A verb at the beginning of some words: its task (None if it changes a part), and how many words it takes up.

    A `doubtful` one, such as "drop", has other meanings.
    """

    task: Task | None
    doubtful: bool
    length: int
    misspelt: bool = False

    @property
    def takes(self) -> bool:
        """Whether it takes something away."""
        return self.task is not None and self.task.takes_from_input


@functools.cache
def verbs() -> dict[str, Verb]:
    """Every verb, with its particle if it has one; where two tasks have the same, the one that takes from the input."""
    known = {verb: Verb(None, False, len(verb.split())) for verb in words().change}
    for task in sorted(TASKS, key=lambda task: (task.takes_from_input, not task.has_stem)):
        for kind in ("plain", "doubtful"):
            for verb in _content()[task.name].get(kind, []):
                known[verb] = Verb(task, kind == "doubtful", len(verb.split()))
    return known


@functools.cache
def forms() -> dict[str, tuple[str, bool]]:
    """Every form of a verb's first word: its base form, and whether it is a past one."""
    bases = dict.fromkeys(verb.split()[0] for verb in (*verbs(), *words().hear))
    found: dict[str, tuple[str, bool]] = {}
    for base in bases:
        stem = base.removesuffix("e") if not base.endswith(("ee", "oe")) else base
        doubled = base + base[-1] if re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", base) else stem
        found |= {f"{doubled}ing": (base, False), f"{doubled}ed": (base, True)}
        found |= dict.fromkeys(words().irregular.get(base, "").split(), (base, True))
    return found | {base: (base, False) for base in bases}


def base(word: str) -> str:
    """A verb's base form; of any other word that word."""
    return forms().get(word, (word, False))[0]


def is_past(word: str) -> bool:
    """Whether a word is a past form or participle of a verb that is known."""
    return forms().get(word, ("", False))[1]


def is_hearing(word: str) -> bool:
    """Whether a word is a verb of giving and hearing."""
    return base(word) in words().hear


def is_part(word: str) -> bool:
    """Whether a word names a part of music, in the singular or the plural, alone or at a compound's end."""
    word = word.removesuffix("'s").removesuffix("'")
    last = word.rpartition("-")[2]
    return not words().parts.isdisjoint((word, singular(word), singular(last)))


@functools.cache
def instruments() -> dict[str, str]:
    """The instrument or voice that each word for one means, in the singular; "melody" means none."""
    return {word: name for name, forms in _content()["instruments"].items() for word in forms.split()}


def instrument(word: str) -> str:
    """The instrument that a word names, in the singular or the plural, alone or at a compound's end; "" if none."""
    word = word.removesuffix("'s").removesuffix("'")
    known, last = instruments(), word.rpartition("-")[2]
    return next((known[form] for form in (word, singular(word), singular(last)) if form in known), "")


def has_part(some: list[str]) -> bool:
    """Whether a part of music is among some words."""
    return any(map(is_part, some))


def singular(word: str) -> str:
    """A noun without the plural's s."""
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def verb_of(some: list[str]) -> Verb | None:
    """The longest verb that some words begin with. Only verbs that take something away may be misspelt."""
    if not some:
        return None
    known = forms().get(some[0], ("", False))[0]
    first = known or corrected(some[0])
    for length in (4, 3, 2, 1):
        found = verbs().get(" ".join([first, *some[1:length]])) if first and len(some) >= length else None
        if found:
            return found if known else Verb(found.task, found.doubtful, length, True) if found.takes else None
    return None


def corrected(word: str) -> str:
    """The verb of taking away that a word is one letter from, if it is no word that is known; else ""."""
    if len(word) < MIN_TYPO_LETTERS or word in spelt_right() or is_part(word):
        return ""
    for verb in taking_words():
        if (word[0] == verb[0] or len(verb) >= 6) and one_letter_apart(word, verb):
            return verb
    return ""


@functools.cache
def taking_words() -> list[str]:
    """The first words of verbs that take away, where they have letters enough to be told from other words."""
    first = dict.fromkeys(text.split()[0] for text, verb in verbs().items() if verb.takes)
    return [word for word in first if len(word) >= MIN_TYPO_LETTERS]


@functools.cache
def spelt_right() -> frozenset[str]:
    """Words that are no misspelt verbs."""
    known = words()
    groups = (known.openers, known.whole, known.versions, known.stops, known.not_parts, known.hear)
    return frozenset().union(*groups, known.signs, known.rest, known.auxiliaries)


def one_letter_apart(word: str, other: str) -> bool:
    """Whether one letter is wrong, missing, too many, or two neighbours have changed places."""
    start = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    one, two = word[start:], other[start:]
    swapped = len(one) > 1 and one[1::-1] == two[:2] and one[2:] == two[2:]
    return swapped or one[1:] == two[1:] or one[1:] == two or one == two[1:]
