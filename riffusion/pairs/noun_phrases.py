"""Noun phrases of instructions: "the loud drums", "a solo violin", "everything else"."""

from dataclasses import dataclass
from enum import Enum

from riffusion.pairs.lexicon import has_part, is_part, is_past, singular, words


class Article(Enum):
    """What a noun phrase begins with."""

    NONE = "no noun phrase at all"
    BARE = "drums"
    THE = "the drums"
    A = "a drum beat, another drum beat"
    IT = "a pronoun"


class Noun(Enum):
    """What a noun phrase names."""

    NONE = "nothing that is a noun"
    PART = "a part in the singular"
    PARTS = "parts in the plural"
    DESCRIBED = "a part, with words that tell it from others"
    REST = "everything else"
    WHOLE = "the music as a whole"
    NOTHING = "nothing"
    PROPERTY = "a property of sound"
    UNKNOWN = "something else"

    @property
    def is_part(self) -> bool:
        """Whether it is one part or several."""
        return self in (Noun.PART, Noun.PARTS, Noun.DESCRIBED)


@dataclass(frozen=True)
class Phrase:
    """A noun phrase at the beginning of some words, and how many of them it takes up."""

    article: Article
    noun: Noun
    length: int

    @property
    def is_known(self) -> bool:
        """Whether it speaks of a part that is there."""
        return self.article in (Article.THE, Article.BARE) and self.noun.is_part

    @property
    def is_definite(self) -> bool:
        """Whether it speaks of something that is there, be it "the" and a noun that isn't known."""
        return self.is_known or (self.article is Article.THE and self.noun is Noun.UNKNOWN)


def noun_phrase(some: list[str]) -> Phrase:
    """The noun phrase that some words begin with."""
    if some[:1] and some[0] in words().pronouns and (len(some) == 1 or some[1] in words().stops):
        return Phrase(Article.IT, Noun.WHOLE if some[0] == "it" else Noun.NONE, 1)
    article, first = read_article(some)
    end = first
    while end < len(some) and not ends_phrase(some, first, end):
        end += 1
    if end > first:
        return Phrase(article, noun_of(some[first:end]), end)
    noun = Noun.WHOLE if some[:1] in (["this"], ["it"], ["all"]) else Noun.NONE
    if some[:1] and (some[0] in words().pronouns or some[0] in ("this", "all")):
        return Phrase(Article.IT, noun, 1)
    return Phrase(Article.NONE, noun, first)


def read_article(some: list[str]) -> tuple[Article, int]:
    """The article of a noun phrase, and how many words it and what stands beside it take up: "all of the"."""
    known, article, place = words(), Article.BARE, 0
    determiners = known.definite | known.indefinite | known.quantifiers | {"only"}
    while place < len(some) and some[place] in determiners:
        word = some[place]
        if word in known.definite or (article is Article.THE and word in known.quantifiers):
            article = Article.THE
        if word in known.indefinite and article is not Article.THE:
            article = Article.A
        place += 1
    return article, place


def ends_phrase(some: list[str], first: int, place: int) -> bool:
    """Whether a word can't belong to the noun phrase that began at `first`; participles follow a noun."""
    word = some[place]
    participle = word in words().participles or is_past(word) or (word.endswith("ing") and not is_part(word))
    if place > first and participle:
        return has_part(some[first:place])
    return word in words().stops or word in words().without


def noun_of(nouns: list[str]) -> Noun:
    """What some nouns and adjectives together name."""
    nouns = [word for word in nouns if not word.endswith("ly")] or nouns
    if "nothing" in nouns or nouns[0] == "no":
        return Noun.NOTHING
    if names_rest(nouns):
        return Noun.REST
    if has_part(nouns):
        return kind_of_part(nouns)
    if all(word in words().whole or singular(word) in words().whole for word in nouns):
        return Noun.WHOLE
    return Noun.PROPERTY if singular(nouns[-1]) in words().not_parts else Noun.UNKNOWN


def names_rest(nouns: list[str]) -> bool:
    """Whether they are "everything else" or "the other instruments", and not "the other guitar"."""
    of_rest = words().rest | {"instrument", "parts", "part"}
    return not words().rest.isdisjoint(nouns) and not has_part([word for word in nouns if word not in of_rest])


def kind_of_part(nouns: list[str]) -> Noun:
    """Which kind of part nouns are, one of which is a part; "the drum level" is none."""
    head = nouns[-1]
    named = has_part(nouns[:-1])
    if singular(head) in words().not_parts and not (named and head in ("track", "sound", "sounds")):
        return Noun.PROPERTY
    if not all(map(is_part, nouns)):
        return Noun.DESCRIBED
    plural = head.endswith("s") or head in ("percussion", "singing", "brass", "drumming", "rapping", "vox", "choir")
    return Noun.PARTS if plural else Noun.PART
