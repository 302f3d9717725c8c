"""What an instruction asks for: add, remove, extract or keep, by a small grammar of imperatives.

A task that takes something away would destroy a song if it was guessed, so it needs words that govern a part:

1. An instruction falls into clauses, at punctuation and at "and", "then", "but", "while", "or", "plus".
2. Polite openers ("could you please", "I'd like you to") are skipped, with "in this song" and adverbs. A verb counts
   only as the first word after them: "drop the drums" has one, "a drop-D guitar" and "a solo violin" don't.
3. A verb takes its part away if a noun phrase follows it. Plain verbs ("remove", "isolate", "take ... out") take "the"
   and any noun that isn't a property of sound ("the reverb"), or a part by its name without an article. Doubtful ones
   ("drop", "cut", "mute", "solo") take "the" and a known part, or ("solo" and "separate" not) parts named bare in the
   plural. The longest verb counts, in one piece or around its part: "drop the bass in" adds.
4. Without a verb: "no X", "without X", "minus X", "everything but X", "X-free", "X out", "X must go", "instrumental"
   and "karaoke" remove; "only X", "just the X", "X alone", "X without the rest" and "a cappella" extract.
   "A" and "some" speak of something new, so "just a flute" adds; and so does what describes a part by others that it
   isn't: "female singer only, no choir", "strings, no brass".
5. A negated verb takes nothing away: "don't remove the drums" keeps. "I don't want the drums" is "no drums".
6. What is said of the rest changes nothing beside another task ("and keep the rest"); "mute the rest" makes an
   extract of "keep the vocals", and so does "lose the band".
7. A verb with one letter wrong, missing, too many or in another's place is read if it has four letters and a known part
   follows that has "the" or stands bare.
8. Several tasks, changes of a part ("louder", "replace") and clauses without any of this are "add", with a warning.

The words are in prompts/task_words.json, where more can be added.
"""

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

from riffusion.pairs.tasks import ADD, KEEP, TASKS, Task, task_named

WORDS = Path(__file__).resolve().parents[2] / "prompts" / "task_words.json"
TAKING = tuple(task.name for task in TASKS if task.takes_from_input)
PARTS = (
    "part",
    "parts",
    "described",
)  # one in the singular, in the plural, and one with words that tell it from others
REWRITTEN = (
    (r"[’`´]", "'"),
    (r"\b(do|does|did|should|would|could|ca|wo)n['o]?t\b", r"\1 not"),
    (r"\b(dont|doesnt|didnt|cant|wont|don t|never|no need to|instead of|rather than)\b", "not"),
    (r"\bw/o\b|\bwith no\b", "without"),
    (r"\ba[ -]?c+ap+el+a\b", "acappella"),
    (r"\b(except for|apart from|aside from|other than|besides|excluding|save for|except|bar)\b", "except"),
    (r"\beverything[ -](except|but)[ -]the[ -](kitchen sink|girl)\b", "many"),
    (r"\b(everything|nothing|all|anything|everyone)( gone| out| off| muted| removed)? but\b", r"\1\2 except"),
    (r"\b(by (itself|themselves|himself|herself)|on (its|their|his|her) own|in isolation|solely)\b", "alone"),
    (r"\b(has|have|needs?|got|must|should) (to )?go\b", "must go"),
    (r"\bjust\b", "only"),
    (r"\ball (i|we) (want|need|want to hear|need to hear) is\b", "only"),
)


@dataclass(frozen=True)
class Reading:
    """The task that an instruction asks for, and what is doubtful about it, if anything is."""

    task: Task
    warning: str = ""


@dataclass(frozen=True)
class _Phrase:
    """A noun phrase at the beginning of some words: its kind, and how many of them it takes up."""

    article: str  # "the", "a", "bare", "it" (a pronoun) or ""
    noun: str  # "part", "parts", "rest", "whole", "nothing", "property", "unknown" or ""
    length: int

    @property
    def is_known(self) -> bool:
        """Whether it speaks of a part that is there."""
        return self.article in ("the", "bare") and self.noun in PARTS


def read_task(prompt: str) -> Task:
    """The task that an instruction asks for; "add" in doubt."""
    return read_instruction(prompt).task


@functools.lru_cache(maxsize=4096)
def read_instruction(prompt: str) -> Reading:
    """The task that an instruction asks for, with a warning if that isn't sure. The module says by which rules."""
    said: list[str] = []
    part_before = False  # that "it" may stand for
    for clause in _clauses(prompt):
        said.append(_read_clause(clause, part_before))
        part_before |= any(_is_part(word) for word in clause)
    return _decide(said)


def _decide(said: list[str]) -> Reading:
    """One task from what all clauses say."""
    found = {kind for kind in said if kind in ("add", "change", *TAKING)}
    new = {"new part", "asked"} & {*said}
    if "only bare" in said:  # so begin "just strings and a harp" and "female singer only, no choir"
        found.add("add" if new or {"a part", "absent", "no", "not"} & {*said} else "extract")
    if "drop band" in said:  # which is the rest beside "keep the singer"
        found.add("extract" if "keep part" in said else "remove")
    if "drop rest" in said and {"keep part", "the part", "parts", "extract", "only bare"} & {*said}:
        found = (found - {"remove"}) | {"extract"}
    elif "must go" in said and {"the part", "parts"} & {*said} and not found:
        found = {"remove"}
    elif "nothing else" in said and {"the part", "parts"} & {*said} and not found:
        found = {"extract"}
    if {"absent", "without"} & {*said} and "extract" not in found:
        found.add("remove")
    first = next((kind for kind in said if kind), "")
    lacks = ("absent" in said and new) or ("without" in said and "asked" in said)
    described = "absent" in said and "parts" in said[: said.index("absent")]  # "strings, no brass"
    if first in ("a part", "new part", "asked") or lacks or described:
        found.add("add")
    if len(found) > 1:
        return Reading(ADD, f"it asks for several things ({', '.join(sorted(found))})")
    if found == {"change"}:
        return Reading(ADD, "parts can be added, removed or extracted, but not changed")
    if found:
        return Reading(task_named(min(found)), "" if found != {"add"} or {"add", "asked"} & {*said} else NO_VERB)
    if {"keep", "not", "keep part"} & {*said} and not new:
        return Reading(KEEP)
    return Reading(ADD, "" if "asked" in said else NO_VERB)


NO_VERB = "no verb is recognised in it"


def _clauses(prompt: str) -> list[list[str]]:
    """The words of each clause, in lower case and without contractions."""
    text = prompt.lower()
    for pattern, words in REWRITTEN:
        text = re.sub(pattern, words, text)
    clauses: list[list[str]] = [[]]
    for token in re.findall(r"[\w']+(?:-[\w']+)*|[^\w\s()\"“”]|\n", text):
        if token in _words("conjunctions") or not re.match(r"\w|'", token):
            clauses.append([])
        else:
            clauses[-1].append(token)
    return [clause for clause in clauses if clause]


def _read_clause(clause: list[str], part_before: bool) -> str:
    """What a clause says: a task, or "absent", "keep part", "drop rest", "change", "not", "a part", "the part", ""."""
    opened, rest = _skip_openers(clause)
    if clause[-2:] == ["must", "go"]:
        return _read_state(rest) or "must go"
    if not rest:
        return ""
    if "not" in opened:
        return _read_negated(opened, rest)
    for rule in (_read_without, _read_except, _read_versions):
        if kind := rule(rest):
            return kind
    heard = _skip_hearing(rest)
    before = [*opened, *rest[: len(rest) - len(heard)]]
    if "only" in before and not {"you", "like"} & {*before[before.index("only") + 1 :][:1]} and not _verb(heard):
        phrase = _noun_phrase(heard)
        if phrase.is_known or (phrase.article == "the" and phrase.noun == "unknown"):
            return "only bare" if phrase.article == "bare" else "extract"
    if heard != rest and heard[:1] == ["the"] and (heard[1:2] in (["isolated"], ["soloed"]) or _is_stem(heard)):
        return "extract"
    if rest[0] == "no":
        words = [word for word in rest[1:] if word != "more"]
        phrase = _noun_phrase(words)
        if phrase.noun in PARTS:
            after = words[phrase.length :]
            return "" if "yet" in after or any(_is_part(word) for word in after) else "absent"
        if phrase.noun == "rest":
            return "nothing else"
        return "keep" if rest[1:2] and _singular(rest[1]) in ("change", "edit", "alteration", "modification") else "no"
    purpose = {"i", "we", "i'd", "i'll"} & {*opened} and not {"you", "mind"} & {*opened}
    if kind := _read_verb(rest, part_before):
        return "" if purpose and kind == "add" and rest[0] not in ("add",) else kind
    return _read_state(_skip_hearing(rest)) or _read_nouns(clause, rest)


def _is_stem(words: list[str]) -> bool:
    """Whether some words are "the vocal stem" and nothing more."""
    phrase = _noun_phrase(words)
    return phrase.is_known and _singular(words[phrase.length - 1]) == "stem"


def _skip_openers(clause: list[str]) -> tuple[list[str], list[str]]:
    """A clause's opening words, and the others from the verb or the noun on."""
    openers, place = _words("openers") | {"not", "only"}, 0
    while place < len(clause):
        word, after = clause[place], clause[place + 1 :]
        if (
            word in _words("places")
            and after[:1]
            and after[0] in _words("definite")
            and set(after[1:2]) <= _words("whole")
        ):
            place += 1 + len(after[:2])
        elif (_verb(clause[place:]) or ("",))[0] in TAKING:
            break
        elif word in openers or (word.endswith("ly") and len(word) > 3):
            place += 1
        else:
            break
    return clause[:place], clause[place:]


def _skip_hearing(words: list[str]) -> list[str]:
    """The words after a verb of giving and hearing, "me" and "only"."""
    place = 0
    while place < len(words) and (_base(words[place]) in _words("hear") or words[place] in ("me", "us", "only", "to")):
        place += 1
    return words[place:]


def _read_negated(opened: list[str], rest: list[str]) -> str:
    wished = {"want", "like", "need", "love"} & {*opened} and "you" not in opened[opened.index("not") :]
    if wished or _base(rest[0]) in ("want", "need", "include"):
        heard = _skip_hearing(rest)
        phrase = _noun_phrase(heard)
        if phrase.is_known and not _read_state(heard):
            return "absent"
    return "not"


def _read_without(rest: list[str]) -> str:
    """ "The same without the drums", "minus the vocals", "the voice without the rest"."""
    place = next((place for place, word in enumerate(rest) if word in _words("without")), None)
    if place is None:
        return ""
    before, without = rest[:place], _noun_phrase(rest[place + 1 :])
    if place + 1 < len(rest) and _verb(rest[place + 1 :]):
        return "" if before else "not"  # without removing
    neutral = (
        _words("whole")
        | _words("hear")
        | _words("versions")
        | _words("openers")
        | _words("definite")
        | {"sound", "a", "do"}
    )
    if without.noun == "rest" or (
        {"music", "instruments", "band"} & {*rest[place + 1 :]} and _noun_phrase(before).is_known
    ):
        return "extract" if _noun_phrase(_skip_hearing(before)).is_known else "drop rest"
    heard = all(word in neutral or _base(word) in _words("hear") for word in before)
    known = without.noun in PARTS or (without.article == "the" and without.noun == "unknown")
    return "without" if heard and known and without.article != "a" else ""


def _read_except(rest: list[str]) -> str:
    """ "Everything but the drums" leaves them out, "mute everything but the drums" leaves them alone."""
    if "except" not in rest:
        return ""
    place = rest.index("except")
    if not _noun_phrase([word for word in rest[place + 1 :] if word != "for"]).is_known:
        return ""
    verb = _verb(rest)
    taken = verb[0] if verb else ""
    if any(word in _words("remove", "states") or word in ("removed", "muted") for word in rest[:place]):
        taken = "remove"
    everything = {"everything", "all", "anything", "instruments", "music", "other", "every", "song", "track"} & {
        *rest[:place]
    }
    if "nothing" in rest[:place] or (everything and taken == "remove"):
        return "extract"
    return "remove" if everything and taken in ("", "keep", "extract", "add", "change") else ""


def _read_versions(rest: list[str]) -> str:
    """An instrumental or karaoke version, an a cappella, a drum-free or drumless one, and nothing more than that."""
    words = [
        word for word in _skip_hearing(rest) if word not in ("into", "proper", "full", "clean", "pure", "completely")
    ]
    words = words[1:] if words and words[0] in _words("definite") | _words("indefinite") else words
    while words and words[0] in _words("whole") - {"one"} and len(words) > 1:
        words = words[1:]
    words = [word for word in words if word not in ("into", "a", "an", "the")]
    if not words or not all(
        word in _words("versions") or word in _words("definite") for word in words[1 + (words[1:2] == ["free"]) :]
    ):
        return ""
    word = words[0]
    if word == "acappella":
        return "extract"
    free = re.fullmatch(r"(\w+)(?:-free|-less|less)", word)
    if word in ("instrumental", "karaoke") or (free and _is_part(free[1])):
        return "remove"
    return "remove" if words[1:2] == ["free"] and _is_part(word) else ""


def _read_verb(rest: list[str], part_before: bool) -> str:
    """What a clause's first word says, if that is a verb with a fitting object."""
    task, doubtful, length, typo = _verb(rest) or ("", False, 1, False)
    phrase = _noun_phrase(rest[length:])
    after = rest[length + phrase.length :]
    around = _verb([rest[0], *after[:1]]) if length == 1 and after else None
    if around and around[2] == 2 and _is_particle(after):
        task, doubtful, typo, after = around[0], False, around[3], after[1:]
    if not task or _forms().get(rest[0], ("", ""))[1] == "past":
        return ""
    if task in ("remove", "change") and ("to", "only") in zip(rest, rest[1:], strict=False):
        phrase = _noun_phrase(rest[rest.index("only") + 1 :])
        return "extract" if phrase.article == "the" and phrase.noun in PARTS else "change"
    if task == "extract" or task == "remove":
        return _read_taking(task, doubtful, typo, phrase, after, rest, part_before)
    if task == "change":
        return _read_state(_skip_hearing(rest)) or ("keep" if phrase.noun == "nothing" else "change")
    if task == "keep":
        return _read_keeping(phrase, after, rest)
    if phrase.noun == "nothing":
        return "nothing else" if "else" in rest else "keep"
    return _read_state(_skip_hearing(rest)) or "add"


def _is_particle(words: list[str]) -> bool:
    """Whether the first word belongs to a verb before it: "drop the bass in", and not "in a low register"."""
    if words[0] in ("in", "on"):
        return {*words[1:2]} <= _words("placed")
    return words[0] not in ("up", "down") or words[1:2] != ["in"]


def _read_taking(
    task: str, doubtful: bool, typo: bool, phrase: _Phrase, after: list[str], rest: list[str], part_before: bool
) -> str:
    """Whether a verb that takes away governs a part."""
    if phrase.noun == "rest":
        return "drop rest" if task == "remove" else ""
    if phrase.noun == "nothing":
        return "keep"
    after = after[1:] if after[:1] == ["down"] and after[1:] else after
    partly = bool(after) and (
        after[0] in _words("partly") or (after[0] == "by" and re.match(r"\d|half", " ".join(after[1:])))
    )
    if partly and (doubtful or "down" in rest or {"bit", "little", "slightly"} & {*after}):
        return "change"
    if phrase.article == "it":
        return task if part_before and not (doubtful and after) else ""
    band = phrase.article == "the" and {*rest[: len(rest) - len(after)]} & _words("band")
    if task == "remove" and band and not typo:
        return "drop band" if phrase.noun in PARTS else "drop rest"
    if not doubtful and not typo:
        told = phrase.noun == "unknown" and not _names_new_part(after)
        fits = phrase.is_known or (phrase.article == "the" and told)
        return task if fits or (phrase.article == "a" and phrase.noun in PARTS and rest[1] != "more") else ""
    placed = bool(after) and (after[0] in _words("placing") or (after[0] == "in" and {*after[1:2]} <= _words("placed")))
    if doubtful and placed:
        return ""
    bare = phrase.article == "bare" and (phrase.noun == "parts" or not doubtful) and phrase.length <= 2
    bare &= task == "remove" or not doubtful or after[:1] == ["from"]
    return task if (phrase.article == "the" and phrase.is_known) or bare else ""


def _names_new_part(words: list[str]) -> bool:
    """Whether some words speak of "a part": "with a ukulele"."""
    return bool({*words} & _words("indefinite")) and any(_is_part(word) for word in words)


def _read_keeping(phrase: _Phrase, after: list[str], rest: list[str]) -> str:
    """ "Keep the drums", "keep it as it is", "keep only the drums", "leave the drums alone"."""
    if "only" not in rest and _names_new_part(after):
        return "asked"
    if "only" in rest[1:3] and _noun_phrase(_skip_hearing(rest)).article != "a":
        return "extract" if _noun_phrase(_skip_hearing(rest)).noun in (*PARTS, "unknown") else ""
    if phrase.is_known and _base(rest[0]) != "leave" and after[:1] in (["alone"], ["only"]):
        return "extract"
    if phrase.noun in ("rest", "nothing"):
        return "nothing else"
    if phrase.noun in (*PARTS, "unknown") and phrase.article == "the":
        return "keep part"
    return "keep" if phrase.noun == "whole" or phrase.article == "it" else ("keep part" if phrase.is_known else "")


def _read_state(words: list[str]) -> str:
    """ "The drums out", "vocals removed", "the bass must go", "the vocals only"."""
    phrase = _noun_phrase(words)
    after = words[phrase.length :]
    if not (phrase.is_known or (phrase.article == "the" and phrase.noun == "unknown")):
        return ""
    if phrase.article == "the" and words[-2:] == ["must", "go"]:
        return "remove"
    while after and (after[0] in _words("auxiliaries") or (after[0].endswith("ly") and after[0] != "only")):
        after = after[1:]
    if not after or (phrase.article == "bare" and phrase.noun != "parts" and after[0] == "alone"):
        return ""
    if phrase.article == "bare" and phrase.noun == "described" and after[0] != "only":
        return ""
    if not _is_part(words[phrase.length - 1]) and after[0] in ("out", "off", "away", "go"):
        return ""  # "the drums drop out"
    somewhere = after[1:2] in (["in"], ["on"]) and (phrase.article == "bare" or after[0] == "only")
    tail = _words("versions") | {"completely", "away", "at", "entirely", "altogether"}
    if after[1:2] in (["of"], ["from"]):  # "out of the song", and not "out of tune"
        somewhere |= _noun_phrase(after[2:]).noun != "whole" and after[2:3] not in (["here"], ["there"])
    ends = len(after) == 1 or (after[1] in tail and not somewhere)
    for task in TAKING:
        if after[0] in _words(task, "states") and ends:
            return "only bare" if after[0] == "only" and phrase.article == "bare" else task
        verb = _verb(after)
        if verb and verb[0] == task and _forms().get(after[0], ("", ""))[1] == "past":
            return task
    return ""


def _read_nouns(clause: list[str], rest: list[str]) -> str:
    """What a clause without a verb of a task is about: a new part or one that is there, and sometimes no change."""
    if {"unchanged", "untouched", "intact", "unaltered"} & {*clause} or re.search(
        r"\bas (it )?is\b|^same as (before|now|it was|the original)|(stay|remain|be|keep\w*) (exactly )?the same",
        " ".join(clause),
    ):
        return "keep"
    phrase = _noun_phrase(rest)
    if rest[0] == "nothing":
        said_only = all(word in _words("stops") or word in _words("openers") for word in rest[1:])
        return "nothing else" if "else" in rest else "keep" if said_only else ""
    if rest[0] in _words("without"):
        return ""
    known = any(_is_part(word) for word in clause)
    if phrase.article == "the" and phrase.noun != "whole":
        return "the part"
    if {*clause} & _words("add", "signs") and {*clause} & _words("indefinite"):
        return "asked"
    if phrase.is_known and phrase.noun == "parts" and phrase.length == len(rest):
        return "parts"
    if phrase.article == "a" and phrase.noun in PARTS:
        return "new part"
    return "a part" if known or phrase.article == "a" else ""


def _noun_phrase(words: list[str]) -> _Phrase:
    """The noun phrase that some words begin with."""
    if words[:1] and words[0] in _words("pronouns") and (len(words) == 1 or words[1] in _words("stops")):
        return _Phrase("it", "whole" if words[0] == "it" else "", 1)
    place, article = 0, "bare"
    while place < len(words) and words[place] in _words("definite") | _words("indefinite") | _words("quantifiers") | {
        "only"
    }:
        word = words[place]
        article = (
            "the" if word in _words("definite") or (article == "the" and word in _words("quantifiers")) else article
        )
        article = "a" if word in _words("indefinite") and article != "the" else article
        place += 1
    first = place
    while place < len(words) and not _ends_phrase(words, first, place):
        place += 1
    nouns = words[first:place]
    if not nouns:
        alone = words[:1] and (words[0] in _words("pronouns") or words[0] in ("this", "all"))
        length = 1 if alone else first
        noun = "whole" if words[:1] in (["this"], ["it"], ["all"]) else ""
        return _Phrase("it" if alone else "", noun, length)
    return _Phrase(article, _noun_kind(nouns), place)


def _ends_phrase(words: list[str], first: int, place: int) -> bool:
    """Whether a word can't belong to the noun phrase that began at `first`; participles follow a noun."""
    word = words[place]
    past = _forms().get(word, ("", ""))[1] == "past"
    if place > first and (word in _words("participles") or past or (word.endswith("ing") and not _is_part(word))):
        return any(_is_part(earlier) for earlier in words[first:place])
    return word in _words("stops") or word in _words("without")


def _noun_kind(nouns: list[str]) -> str:
    nouns = [word for word in nouns if not word.endswith("ly")] or nouns
    head = nouns[-1]
    if "nothing" in nouns or nouns[0] == "no":
        return "nothing"
    if {*nouns} & _words("rest") and not any(
        _is_part(word) for word in nouns if word not in _words("rest") | {"instrument", "parts", "part"}
    ):
        return "rest"
    if any(_is_part(word) for word in nouns):
        named = any(_is_part(word) for word in nouns[:-1])
        if _singular(head) in _words("not_parts") and not (named and head in ("track", "sound", "sounds")):
            return "property"
        plural = head.endswith("s") or head in ("percussion", "singing", "brass", "drumming", "rapping", "vox", "choir")
        described = not all(_is_part(word) for word in nouns)
        return "described" if described else "parts" if plural else "part"
    if all(word in _words("whole") or _singular(word) in _words("whole") for word in nouns):
        return "whole"
    return "property" if _singular(head) in _words("not_parts") else "unknown"


def _is_part(word: str) -> bool:
    word = word.removesuffix("'s").removesuffix("'")
    parts = _words("parts")
    return word in parts or _singular(word) in parts or _singular(word.rpartition("-")[2]) in parts


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _verb(words: list[str]) -> tuple[str, bool, int, bool] | None:
    """The longest verb that some words begin with: its task, whether it is doubtful, its length, whether misspelt."""
    if not words:
        return None
    base, typo = _forms().get(words[0], ("", ""))[0], False
    if not base:
        base, typo = _corrected(words[0]), True
    for length in (4, 3, 2, 1):
        found = _verbs().get(" ".join([base, *words[1:length]])) if base and len(words) >= length else None
        if found:
            task, doubtful = found
            return (task, doubtful, length, typo) if not typo or task in TAKING else None
    return None


def _corrected(word: str) -> str:
    """The verb of taking away that a word is one letter from, if it is no word that is known."""
    if len(word) < 4 or word in _known() or _is_part(word):
        return ""
    for base in _taking_words():
        if (word[0] == base[0] or len(base) >= 6) and _one_letter_apart(word, base):
            return base
    return ""


@functools.cache
def _taking_words() -> list[str]:
    """The first words of verbs that take away, where they have letters enough to be told from other words."""
    return [
        word for word in dict.fromkeys(v.split()[0] for v in _verbs() if _verbs()[v][0] in TAKING) if len(word) >= 4
    ]


def _one_letter_apart(word: str, other: str) -> bool:
    """Whether one letter is wrong, missing, too many, or two neighbours have changed places."""
    start = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    one, two = word[start:], other[start:]
    swapped = len(one) > 1 and one[1::-1] == two[:2] and one[2:] == two[2:]
    return swapped or one[1:] == two[1:] or one[1:] == two or one == two[1:]


def _base(word: str) -> str:
    return _forms().get(word, (word, ""))[0]


@functools.cache
def _lexicon() -> dict:
    return json.loads(WORDS.read_text(encoding="utf-8"))


@functools.cache
def _words(group: str, kind: str = "") -> frozenset[str]:
    return frozenset(_lexicon()[group][kind] if kind else _lexicon()[group])


@functools.cache
def _verbs() -> dict[str, tuple[str, bool]]:
    """Every verb, with its particle if it has one: its task, and whether it is doubtful."""
    words = _lexicon()
    verbs = {verb: ("change", False) for verb in words["change"]}
    for task in ("add", "keep", *TAKING):
        verbs |= {
            verb: (task, kind == "doubtful") for kind in ("plain", "doubtful") for verb in words[task].get(kind, [])
        }
    return verbs


@functools.cache
def _forms() -> dict[str, tuple[str, str]]:
    """Every form of a verb's first word: its base form, and which form it is."""
    forms: dict[str, tuple[str, str]] = {}
    for base in dict.fromkeys([verb.split()[0] for verb in _verbs()] + _lexicon()["hear"]):
        base = base.split()[0]
        stem = base.removesuffix("e") if not base.endswith(("ee", "oe")) else base
        doubled = base + base[-1] if re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", base) else stem
        forms |= {f"{doubled}ing": (base, "ing"), f"{doubled}ed": (base, "past")}
        forms |= dict.fromkeys(_lexicon()["irregular"].get(base, "").split(), (base, "past"))
    return forms | {verb.split()[0]: (verb.split()[0], "base") for verb in [*_verbs(), *_lexicon()["hear"]]}


@functools.cache
def _known() -> frozenset[str]:
    """Words that are spelt as they should be."""
    groups = ("openers", "whole", "versions", "stops", "not_parts", "hear")
    return frozenset().union(
        *(_words(group) for group in groups), _words("add", "signs"), _words("rest"), _words("auxiliaries")
    )
