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
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from riffusion.pairs.lexicon import Verb, base, has_part, is_hearing, is_part, is_past, singular, verb_of, words
from riffusion.pairs.noun_phrases import Article, Noun, Phrase, noun_phrase
from riffusion.pairs.tasks import ADD, EXTRACT, KEEP, REMOVE, TASKS, Task

NO_VERB = "no verb is recognised in it"
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


class Hint(Enum):
    """What a clause says where that is no task by itself; other clauses decide what becomes of it."""

    NOTHING = "nothing that matters"
    CHANGE = "change"  # a part is to sound otherwise
    ABSENT = "no drums"
    WITHOUT = "the same without the drums"
    MUST_GO = "must go"  # said of a part in another clause
    ONLY_BARE = "only drums"
    DROP_BAND = "lose the band"
    DROP_REST = "mute the rest"
    KEEP_PART = "keep the drums"
    NOTHING_ELSE = "nothing else"
    NOT = "don't ..."
    NO = "no ..."  # of something that is no part
    THE_PART = "the drums"
    PARTS = "drums"
    NEW_PART = "a drum beat"
    A_PART = "something with drums"
    WISH = "I'd love a drum beat"


Kind = Task | Hint


@dataclass(frozen=True)
class Clause:
    """A clause's words: those that open it, and the others from the verb or the noun on."""

    words: list[str]
    opened: list[str]
    rest: list[str]
    part_before: bool  # that "it" may stand for

    @functools.cached_property
    def heard(self) -> list[str]:
        """What is to be heard: the words after a verb of hearing, or all after the openers."""
        return skip_hearing(self.rest)


def read_task(prompt: str) -> Task:
    """The task that an instruction asks for; `ADD` in doubt."""
    return read_instruction(prompt).task


@functools.lru_cache(maxsize=4096)
def read_instruction(prompt: str) -> Reading:
    """The task that an instruction asks for, with a warning if that isn't sure. The module says by which rules."""
    said: list[Kind] = []
    part_before = False
    for clause in clauses(prompt):
        said.append(read_clause(clause, part_before))
        part_before |= has_part(clause)
    return decide(said)


def clauses(prompt: str) -> list[list[str]]:
    """The words of each clause, in lower case and without contractions."""
    text = prompt.lower()
    for pattern, replacement in REWRITTEN:
        text = re.sub(pattern, replacement, text)
    found: list[list[str]] = [[]]
    for token in re.findall(r"[\w']+(?:-[\w']+)*|[^\w\s()\"“”]|\n", text):
        if token in words().conjunctions or not re.match(r"\w|'", token):
            found.append([])
        else:
            found[-1].append(token)
    return [clause for clause in found if clause]


def decide(said: list[Kind]) -> Reading:
    """One task from what all clauses say."""
    found = asked_of_all(said)
    if len(found) > 1:
        several = sorted(kind.name if isinstance(kind, Task) else str(kind.value) for kind in found)
        return Reading(ADD, f"it asks for several things ({', '.join(several)})")
    if found == {Hint.CHANGE}:
        return Reading(ADD, "parts can be added, removed or extracted, but not changed")
    for task in TASKS:
        if task in found:
            return Reading(task, NO_VERB if task == ADD and not {ADD, Hint.WISH} & {*said} else "")
    if {KEEP, Hint.NOT, Hint.KEEP_PART} & {*said} and not {Hint.NEW_PART, Hint.WISH} & {*said}:
        return Reading(KEEP)
    return Reading(ADD, "" if Hint.WISH in said else NO_VERB)


def asked_of_all(said: list[Kind]) -> set[Kind]:
    """The tasks that are about a part, and `Hint.CHANGE`, that all clauses together ask for."""
    told = {*said}
    found: set[Kind] = {kind for kind in told if kind is Hint.CHANGE or (isinstance(kind, Task) and kind.has_stem)}
    if Hint.ONLY_BARE in told:  # so begin "just strings and a harp" and "female singer only, no choir"
        describes = {Hint.NEW_PART, Hint.WISH, Hint.A_PART, Hint.ABSENT, Hint.NO, Hint.NOT} & told
        found.add(ADD if describes else EXTRACT)
    if Hint.DROP_BAND in told:  # which is the rest beside "keep the singer"
        found.add(EXTRACT if Hint.KEEP_PART in told else REMOVE)
    found = said_of_the_rest(found, told)
    if {Hint.ABSENT, Hint.WITHOUT} & told and EXTRACT not in found:
        found.add(REMOVE)
    if speaks_of_new_part(said):
        found.add(ADD)
    return found


def said_of_the_rest(found: set[Kind], told: set[Kind]) -> set[Kind]:
    """What is asked for where one clause names a part, and another says what becomes of it or of the rest."""
    named = {Hint.THE_PART, Hint.PARTS} & told
    if Hint.DROP_REST in told and (named or {Hint.KEEP_PART, EXTRACT, Hint.ONLY_BARE} & told):
        return (found - {REMOVE}) | {EXTRACT}
    if Hint.MUST_GO in told and named and not found:
        return {REMOVE}
    if Hint.NOTHING_ELSE in told and named and not found:
        return {EXTRACT}
    return found


def speaks_of_new_part(said: list[Kind]) -> bool:
    """Whether an instruction begins with a new part, wishes for one, or describes one by what it isn't."""
    first = next((kind for kind in said if kind is not Hint.NOTHING), Hint.NOTHING)
    if first in (Hint.A_PART, Hint.NEW_PART, Hint.WISH):
        return True
    if Hint.ABSENT in said:
        described = Hint.PARTS in said[: said.index(Hint.ABSENT)]  # "strings, no brass"
        if described or Hint.NEW_PART in said or Hint.WISH in said:
            return True
    return Hint.WITHOUT in said and Hint.WISH in said


def read_clause(some: list[str], part_before: bool) -> Kind:
    """What a clause says: by the first rule that has something to say."""
    clause = Clause(some, *skip_openers(some), part_before)
    return next((kind for rule in RULES if (kind := rule(clause)) is not None), Hint.NOTHING)


def skip_openers(clause: list[str]) -> tuple[list[str], list[str]]:
    """A clause's opening words, and the others from the verb or the noun on."""
    openers, place = words().openers | {"not", "only"}, 0
    while place < len(clause):
        word, verb = clause[place], verb_of(clause[place:])
        if skipped := words_of_place(clause[place:]):
            place += skipped
        elif verb and verb.takes:
            break
        elif word in openers or (word.endswith("ly") and len(word) > 3):
            place += 1
        else:
            break
    return clause[:place], clause[place:]


def words_of_place(some: list[str]) -> int:
    """How many words "in this song" and the like take up at the beginning of some words; 0 if they aren't there."""
    of_place = some[0] in words().places and bool(some[1:2]) and some[1] in words().definite
    return len(some[:3]) if of_place and {*some[2:3]} <= words().whole else 0


def skip_hearing(some: list[str]) -> list[str]:
    """The words after a verb of giving and hearing, "me" and "only"."""
    place = 0
    while place < len(some) and (is_hearing(some[place]) or some[place] in ("me", "us", "only", "to")):
        place += 1
    return some[place:]


def read_must_go(clause: Clause) -> Kind | None:
    """ "The drums must go", or "must go" of what was named before."""
    if clause.words[-2:] != ["must", "go"]:
        return None
    return read_state(clause.rest) or Hint.MUST_GO


def read_openers_alone(clause: Clause) -> Kind | None:
    """ "Could you please"."""
    return None if clause.rest else Hint.NOTHING


def read_negated(clause: Clause) -> Kind | None:
    """ "Don't remove the drums" keeps all as it is, "I don't want the drums" doesn't."""
    opened, rest = clause.opened, clause.rest
    if "not" not in opened:
        return None
    wished = {"want", "like", "need", "love"} & {*opened} and "you" not in opened[opened.index("not") :]
    if (wished or base(rest[0]) in ("want", "need", "include")) and noun_phrase(clause.heard).is_known:
        return Hint.NOT if read_state(clause.heard) else Hint.ABSENT
    return Hint.NOT


def read_without(clause: Clause) -> Kind | None:
    """ "The same without the drums", "minus the vocals", "the voice without the rest"."""
    rest = clause.rest
    place = next((place for place, word in enumerate(rest) if word in words().without), None)
    if place is None:
        return None
    before, after = rest[:place], rest[place + 1 :]
    if after and verb_of(after):  # "without removing"
        return None if before else Hint.NOT
    without = noun_phrase(after)
    of_band = {"music", "instruments", "band"} & {*after} and noun_phrase(before).is_known
    if without.noun is Noun.REST or of_band:
        return EXTRACT if noun_phrase(skip_hearing(before)).is_known else Hint.DROP_REST
    says_more = any(word not in words_of_the_same() and not is_hearing(word) for word in before)
    return Hint.WITHOUT if not says_more and without.is_definite else None


def words_of_the_same() -> frozenset[str]:
    """Words that may stand before "without" and say nothing but that all else stays."""
    known = words()
    return known.whole | {*known.hear} | known.versions | known.openers | known.definite | {"sound", "a", "do"}


def read_except(clause: Clause) -> Kind | None:
    """ "Everything but the drums" leaves them out, "mute everything but the drums" leaves them alone."""
    rest = clause.rest
    if "except" not in rest:
        return None
    before, after = rest[: rest.index("except")], rest[rest.index("except") + 1 :]
    if not noun_phrase([word for word in after if word != "for"]).is_known:
        return None
    verb, gone = verb_of(rest), words().states[REMOVE] | {"removed", "muted"}
    removes = (verb is not None and verb.task == REMOVE) or not gone.isdisjoint(before)
    every = {"everything", "all", "anything", "instruments", "music", "other", "every", "song", "track"} & {*before}
    if "nothing" in before or (every and removes):
        return EXTRACT
    return REMOVE if every else None


def read_version(clause: Clause) -> Kind | None:
    """An instrumental or karaoke version, an a cappella, a drum-free or drumless one, and nothing more than that."""
    known = words()
    some = [word for word in clause.heard if word not in ("into", "proper", "full", "clean", "pure", "completely")]
    some = some[1:] if some and some[0] in known.definite | known.indefinite else some
    while some and some[0] in known.whole - {"one"} and len(some) > 1:
        some = some[1:]
    some = [word for word in some if word not in ("into", "a", "an", "the")]
    of_version = known.versions | known.definite
    if not some or not all(word in of_version for word in some[1 + (some[1:2] == ["free"]) :]):
        return None
    if some[0] == "acappella":
        return EXTRACT
    free = re.fullmatch(r"(\w+)(?:-free|-less|less)", some[0])
    if some[0] in ("instrumental", "karaoke") or (free and is_part(free[1])):
        return REMOVE
    return REMOVE if some[1:2] == ["free"] and is_part(some[0]) else None


def read_only(clause: Clause) -> Kind | None:
    """ "Only the drums", "just let me hear the bass"."""
    before = [*clause.opened, *clause.rest[: len(clause.rest) - len(clause.heard)]]
    if "only" not in before or {"you", "like"} & {*before[before.index("only") + 1 :][:1]} or verb_of(clause.heard):
        return None
    phrase = noun_phrase(clause.heard)
    if not phrase.is_definite:
        return None
    return Hint.ONLY_BARE if phrase.article is Article.BARE else EXTRACT


def read_isolated(clause: Clause) -> Kind | None:
    """ "Give me the isolated drums", "export the drum stem"."""
    heard = clause.heard
    if heard == clause.rest or heard[:1] != ["the"]:
        return None
    return EXTRACT if heard[1:2] in (["isolated"], ["soloed"]) or is_stem(heard) else None


def is_stem(some: list[str]) -> bool:
    """Whether some words are "the vocal stem" and nothing more."""
    phrase = noun_phrase(some)
    return phrase.is_known and singular(some[phrase.length - 1]) == "stem"


def read_no(clause: Clause) -> Kind | None:
    """ "No drums", "no more drums", "no change"."""
    rest = clause.rest
    if rest[0] != "no":
        return None
    some = [word for word in rest[1:] if word != "more"]
    phrase = noun_phrase(some)
    if phrase.noun.is_part:
        after = some[phrase.length :]
        return Hint.NOTHING if "yet" in after or has_part(after) else Hint.ABSENT
    if phrase.noun is Noun.REST:
        return Hint.NOTHING_ELSE
    changes = ("change", "edit", "alteration", "modification")
    return KEEP if rest[1:2] and singular(rest[1]) in changes else Hint.NO


def read_verb(clause: Clause) -> Kind | None:
    """What a clause's verb asks for; "I'll sing over it" says what for, and asks for nothing."""
    kind = read_imperative(clause)
    purpose = {"i", "we", "i'd", "i'll"} & {*clause.opened} and not {"you", "mind"} & {*clause.opened}
    if purpose and kind == ADD and clause.rest[0] != "add":
        return Hint.NOTHING
    return kind


def read_imperative(clause: Clause) -> Kind | None:
    """What a clause's first word says, if that is a verb with a fitting object."""
    rest = clause.rest
    verb = verb_of(rest)
    phrase, after = object_of(rest, verb)
    around = verb_of([rest[0], *after[:1]]) if after and (verb is None or verb.length == 1) else None
    if around and around.length == 2 and is_particle(after):
        verb, after = Verb(around.task, False, 2, around.misspelt), after[1:]
    if verb is None or is_past(rest[0]):
        return None
    if verb.task in (REMOVE, None) and ("to", "only") in zip(rest, rest[1:], strict=False):
        left = noun_phrase(rest[rest.index("only") + 1 :])
        return EXTRACT if left.article is Article.THE and left.noun.is_part else Hint.CHANGE
    if verb.takes:
        return read_taking(verb, phrase, after, clause)
    if verb.task is None:
        return read_state(clause.heard) or (KEEP if phrase.noun is Noun.NOTHING else Hint.CHANGE)
    if verb.task == KEEP:
        return read_keeping(phrase, after, clause)
    if phrase.noun is Noun.NOTHING:
        return Hint.NOTHING_ELSE if "else" in rest else KEEP
    return read_state(clause.heard) or verb.task


def object_of(rest: list[str], verb: Verb | None) -> tuple[Phrase, list[str]]:
    """The noun phrase after a verb, or after a word that may be one with what follows; and what comes after that."""
    length = verb.length if verb else 1
    phrase = noun_phrase(rest[length:])
    return phrase, rest[length + phrase.length :]


def is_particle(some: list[str]) -> bool:
    """Whether the first word belongs to a verb before it: "drop the bass in", and not "in a low register"."""
    if some[0] in ("in", "on"):
        return {*some[1:2]} <= words().placed
    return some[0] not in ("up", "down") or some[1:2] != ["in"]


def read_taking(verb: Verb, phrase: Phrase, after: list[str], clause: Clause) -> Kind | None:
    """Whether a verb that takes away governs a part."""
    if phrase.noun is Noun.REST:
        return Hint.DROP_REST if verb.task == REMOVE else None
    if phrase.noun is Noun.NOTHING:
        return KEEP
    after = after[1:] if after[:1] == ["down"] and after[1:] else after
    if is_partly(after) and (verb.doubtful or "down" in clause.rest or {"bit", "little", "slightly"} & {*after}):
        return Hint.CHANGE
    if phrase.article is Article.IT:
        return verb.task if clause.part_before and not (verb.doubtful and after) else None
    governed = clause.rest[: len(clause.rest) - len(after)]
    of_band = phrase.article is Article.THE and not words().band.isdisjoint(governed)
    if verb.task == REMOVE and of_band and not verb.misspelt:
        return Hint.DROP_BAND if phrase.noun.is_part else Hint.DROP_REST
    sure = not verb.doubtful and not verb.misspelt
    fits = fits_sure_verb(phrase, after, clause) if sure else fits_doubtful_verb(verb, phrase, after)
    return verb.task if fits else None


def is_partly(after: list[str]) -> bool:
    """Whether what follows a part says that only some of it goes: "a bit", "by half", "by 3 dB"."""
    if not after:
        return False
    by = after[0] == "by" and re.match(r"\d|half", " ".join(after[1:])) is not None
    return by or after[0] in words().partly


def fits_sure_verb(phrase: Phrase, after: list[str], clause: Clause) -> bool:
    """Whether a noun phrase is what a plain verb of taking away can be about."""
    if phrase.is_known or (phrase.article is Article.A and phrase.noun.is_part and clause.rest[1] != "more"):
        return True
    return phrase.article is Article.THE and phrase.noun is Noun.UNKNOWN and not names_new_part(after)


def fits_doubtful_verb(verb: Verb, phrase: Phrase, after: list[str]) -> bool:
    """The same of one that has other meanings, or is misspelt: the part must have "the" or stand bare."""
    in_place = bool(after) and after[0] == "in" and {*after[1:2]} <= words().placed
    if verb.doubtful and (in_place or (bool(after) and after[0] in words().placing)):
        return False
    if phrase.article is Article.THE:
        return phrase.is_known
    if phrase.article is not Article.BARE or phrase.length > 2:
        return False
    if verb.doubtful:
        return phrase.noun is Noun.PARTS and (verb.task == REMOVE or after[:1] == ["from"])
    return True


def names_new_part(some: list[str]) -> bool:
    """Whether some words speak of "a part": "with a ukulele"."""
    return not words().indefinite.isdisjoint(some) and has_part(some)


def read_keeping(phrase: Phrase, after: list[str], clause: Clause) -> Kind | None:
    """ "Keep the drums", "keep it as it is", "keep only the drums", "leave the drums alone"."""
    rest, only = clause.rest, noun_phrase(clause.heard)
    if "only" not in rest and names_new_part(after):
        return Hint.WISH
    if "only" in rest[1:3] and only.article is not Article.A:
        return EXTRACT if only.noun.is_part or only.noun is Noun.UNKNOWN else None
    if phrase.is_known and base(rest[0]) != "leave" and after[:1] in (["alone"], ["only"]):
        return EXTRACT
    if phrase.noun in (Noun.REST, Noun.NOTHING):
        return Hint.NOTHING_ELSE
    if phrase.is_definite:
        return Hint.KEEP_PART
    return KEEP if phrase.noun is Noun.WHOLE or phrase.article is Article.IT else None


def read_state(some: list[str]) -> Kind | None:
    """ "The drums out", "vocals removed", "the bass must go", "the vocals only"."""
    phrase = noun_phrase(some)
    if not phrase.is_definite:
        return None
    if phrase.article is Article.THE and some[-2:] == ["must", "go"]:
        return REMOVE
    after = skip_auxiliaries(some[phrase.length :])
    if not after or not can_be_state(after[0], some[phrase.length - 1], phrase):
        return None
    ends = len(after) == 1 or ends_state(after, phrase)
    verb = verb_of(after)
    for task in (task for task in TASKS if task.takes_from_input):
        if after[0] in words().states[task] and ends:
            return Hint.ONLY_BARE if after[0] == "only" and phrase.article is Article.BARE else task
        if verb and verb.task == task and is_past(after[0]):
            return task
    return None


def skip_auxiliaries(some: list[str]) -> list[str]:
    """The words after "has been", "should completely be" and the like."""
    while some and (some[0] in words().auxiliaries or (some[0].endswith("ly") and some[0] != "only")):
        some = some[1:]
    return some


def can_be_state(state: str, head: str, phrase: Phrase) -> bool:
    """Whether a word may say how a part is, rather than describe it; `head` is the part's last word."""
    bare = phrase.article is Article.BARE
    if bare and phrase.noun is not Noun.PARTS and state == "alone":
        return False
    if bare and phrase.noun is Noun.DESCRIBED and state != "only":
        return False
    return is_part(head) or state not in ("out", "off", "away", "go")  # "the drums drop out"


def ends_state(after: list[str], phrase: Phrase) -> bool:
    """Whether a state is all that is said of a part, but for "please" and "of the song"."""
    if after[1] not in words().versions | {"completely", "away", "at", "entirely", "altogether"}:
        return False
    if after[1:2] in (["of"], ["from"]):  # "out of the song", and not "out of tune"
        return noun_phrase(after[2:]).noun is Noun.WHOLE or after[2:3] in (["here"], ["there"])
    return after[1] not in ("in", "on") or not (phrase.article is Article.BARE or after[0] == "only")


def read_state_heard(clause: Clause) -> Kind | None:
    """ "Let me hear the vocals only"."""
    return read_state(clause.heard)


def read_unchanged(clause: Clause) -> Kind | None:
    """ "As it is", "the same as before", "all of it unchanged"."""
    same = r"\bas (it )?is\b|^same as (before|now|it was|the original)|(stay|remain|be|keep\w*) (exactly )?the same"
    unchanged = {"unchanged", "untouched", "intact", "unaltered"} & {*clause.words}
    return KEEP if unchanged or re.search(same, " ".join(clause.words)) else None


def read_nothing(clause: Clause) -> Kind | None:
    """ "Nothing else", or "nothing" alone."""
    if clause.rest[0] != "nothing":
        return None
    if "else" in clause.rest:
        return Hint.NOTHING_ELSE
    alone = all(word in words().stops or word in words().openers for word in clause.rest[1:])
    return KEEP if alone else Hint.NOTHING


def read_nouns(clause: Clause) -> Kind | None:
    """What a clause without a verb of a task is about: a new part or one that is there."""
    rest, known = clause.rest, words()
    if rest[0] in known.without:
        return None
    phrase = noun_phrase(rest)
    if phrase.article is Article.THE and phrase.noun is not Noun.WHOLE:
        return Hint.THE_PART
    if not known.signs.isdisjoint(clause.words) and not known.indefinite.isdisjoint(clause.words):
        return Hint.WISH
    if phrase.is_known and phrase.noun is Noun.PARTS and phrase.length == len(rest):
        return Hint.PARTS
    if phrase.article is Article.A and phrase.noun.is_part:
        return Hint.NEW_PART
    return Hint.A_PART if has_part(clause.words) or phrase.article is Article.A else None


RULES: tuple[Callable[[Clause], Kind | None], ...] = (
    read_must_go,
    read_openers_alone,
    read_negated,
    read_without,
    read_except,
    read_version,
    read_only,
    read_isolated,
    read_no,
    read_verb,
    read_state_heard,
    read_unchanged,
    read_nothing,
    read_nouns,
)
