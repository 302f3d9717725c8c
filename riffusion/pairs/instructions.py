"""What a person might ask for: instructions written from a song's labels, or read from a file."""

import csv
import functools
import json
import random
import re
from dataclasses import dataclass, field
from pathlib import Path

from riffusion.pairs.features import Features, agrees, words
from riffusion.pairs.tasks import Edit
from riffusion.util.errors import UserError

PROMPTS = Path(__file__).resolve().parents[2] / "prompts"
MUSDB_LABELS = PROMPTS / "musdb18_labels.tsv"
LABELS = ("voice", "register", "delivery", "mood", "style")
SAY = 0.4  # chance of each opener and place, and of each fact unless another is given, to be said
MOST_FACTS = 3  # in one instruction
# in an instruction, before a part of the music that is there
OVER_WHAT_IS_THERE = (
    r"\b(?:over|under|to|on|onto|with|behind|beside|against|around|along|of|from|like|and|no|without)\s+"
    r"(?:the|this|these|those|that|my|our)\s+(?:[\w'-]+\s+){0,2}?"
)


@dataclass(frozen=True)
class Instruction:
    """The three texts of a pair, as InstructPix2Pix names them."""

    original_prompt: str
    edit_prompt: str
    edited_prompt: str


@dataclass(frozen=True)
class StemForms:
    """How a stem is spoken of, from prompts/templates.json."""

    verbs: list[str]  # of painting it: "sing"
    nouns: list[str]
    plural: str
    events: str  # what its onsets are called

    @property
    def all_nouns(self) -> list[str]:
        """Its name in the plural and all nouns for it."""
        return [self.plural, *self.nouns]


@dataclass(frozen=True)
class SongLabels:
    """What is known of a song beforehand: labels by their name, of `LABELS`, or its one instruction, word for word.

    Several values of a label are separated by ";" or ",".
    """

    facts: dict[str, str] = field(default_factory=dict)
    sentence: str = ""


def read_prompts(path: Path) -> dict[str, SongLabels]:
    """Song name to its labels (TSV), or to its one instruction (JSON lines `{"file": ..., "edit_prompt": ...}`).

    A TSV has a heading with `track` and any of voice, register, delivery, mood and style; several values of one
    label are separated by ";". Raises UserError with the number of a broken line.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such prompt file")
    lines = path.read_bytes().splitlines()
    texts = [_decode(path, number, line) for number, line in enumerate(lines, start=1)]
    return _read_labels(path, texts) if path.suffix == ".tsv" else _read_json_lines(path, texts)


def _decode(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number}: not UTF-8 text") from error


def _read_labels(path: Path, lines: list[str]) -> dict[str, SongLabels]:
    table = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    heading = next(table, [])
    if "track" not in heading:
        raise UserError(f"{path}:1: the header has no column named track")
    labels: dict[str, SongLabels] = {}
    for number, row in enumerate(table, start=2):
        if len(row) != len(heading):
            raise UserError(f"{path}:{number}: {len(row)} columns where the header has {len(heading)}")
        facts = dict(zip(heading, row, strict=True))
        labels[facts["track"]] = SongLabels({name: facts[name] for name in LABELS if facts.get(name)})
    return labels


def _read_json_lines(path: Path, lines: list[str]) -> dict[str, SongLabels]:
    prompts: dict[str, SongLabels] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}: not JSON: {error.msg}") from error
        if not (isinstance(row, dict) and all(isinstance(row.get(key), str) for key in ("file", "edit_prompt"))):
            raise UserError(f'{path}:{number}: not of the form {{"file": ..., "edit_prompt": ...}}')
        prompts[Path(row["file"]).name.removesuffix(".stem.mp4")] = SongLabels(sentence=row["edit_prompt"])
    return prompts


def true_facts(stem: str, labels: dict[str, str], features: Features, rng: random.Random) -> dict[str, str]:
    """What may be said of a stem in a clip: what was measured, and the song's labels that agree with it.

    Labels other than the style speak of the vocals. Where a register is labelled, the label is said or nothing.
    """
    drawn = _draw_labels(stem, labels, rng)
    heard = {name: word for name, word in words(stem, features).items() if name not in drawn}
    return heard | {name: label for name, label in drawn.items() if agrees(label, features)}


def _draw_labels(stem: str, labels: dict[str, str], rng: random.Random) -> dict[str, str]:
    """One value of each of the song's labels that speak of a stem."""
    about = LABELS if stem == "vocals" else ("style",)
    return {name: rng.choice(re.split("[;,] *", labels[name])) for name in about if labels.get(name)}


def write_instruction(
    edit: Edit,
    backing: frozenset[str],
    labels: SongLabels,
    features: Features,
    rng: random.Random,
    say_prob: float = SAY,
) -> Instruction:
    """An instruction that asks for `edit`, drawn from templates, a song's labels and what is heard in the clip.

    `features` are those of the edit's stem. Without labels it claims only what was measured. Each fact is said with
    `say_prob`: what is often left out can't become a song's name tag. The labels' own sentence is taken as it is.
    """
    style = re.split("[;,]", labels.facts.get("style", ""))[0]
    facts = true_facts(edit.stem, labels.facts, features, rng) if edit.stem else {}
    return Instruction(
        original_prompt=_describe(backing, style),
        edit_prompt=labels.sentence or _phrase(edit, facts, say_prob, rng),
        edited_prompt=_describe(edit.result(backing), style),
    )


def with_sentence(labels: SongLabels, edit: Edit, seed: str) -> SongLabels:
    """The labels with one instruction for all clips of the song, drawn from them alone: the seed decides."""
    rng = random.Random(seed)
    return SongLabels(labels.facts, _phrase(edit, _draw_labels(edit.stem, labels.facts, rng), 1.0, rng))


def names_stem(prompt: str, stem: str) -> bool:
    """Whether an instruction speaks of `stem`, by one of its nouns."""
    nouns = _stem_forms(stem).all_nouns
    return any(re.search(rf"(?<!\w){re.escape(noun.lower())}s?(?!\w)", prompt.lower()) for noun in nouns)


def asked_stem(prompt: str) -> str:
    """The stem that an instruction asks for: "vocals", "drums", "bass" or "other"; "" if it speaks of none or several.

    What it says of the music that is there ("over the drums") doesn't count.
    """
    named = []
    for stem in ("vocals", "drums", "bass", "other"):
        nouns = "|".join(map(re.escape, set(_stem_forms(stem).all_nouns)))
        rest = re.sub(rf"{OVER_WHAT_IS_THERE}(?:{nouns})s?\b", "", prompt.lower())
        if re.search(rf"\b(?:{nouns})s?\b", rest):
            named.append(stem)
    return named[0] if len(named) == 1 else ""


def _describe(stems: frozenset[str], style: str) -> str:
    names = [_stem_forms(stem).plural for stem in sorted(stems)]
    listed = " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
    return f"{style} music with {listed}".strip()


def _phrase(edit: Edit, facts: dict[str, str], say_prob: float, rng: random.Random) -> str:
    forms, stem = _templates()["tasks"][edit.task.name], _stem_forms(edit.stem)
    plays_along = edit.task.brings_stem and edit.task.keeps_input
    verbs = forms["verbs"] + (stem.verbs if plays_along else [])
    text = rng.choice(forms["phrases"]).format(
        opener=rng.choice(_templates()["openers"]) if rng.random() < SAY else "",
        verb=rng.choice(verbs) if verbs else "",
        noun=_noun(stem, facts, say_prob, rng),
        plural=stem.plural,
        place=rng.choice(forms["places"]) if rng.random() < SAY else "",
    )
    return re.sub(r"\ba (?=[aeiou])", "an ", text, flags=re.IGNORECASE)


def _noun(stem: StemForms, facts: dict[str, str], say_prob: float, rng: random.Random) -> str:
    """A stem's noun with some of its facts, each before it as an adjective or after it."""
    said = [name for name in sorted(facts) if rng.random() < say_prob]
    before, after = "", ""
    for name in rng.sample(said, min(len(said), MOST_FACTS)):
        values = _templates()["facts"][name]
        forms = values.get(facts[name]) or values["*"]
        place = rng.choice(range(len(forms["before"]) + len(forms["after"])))
        form = [*forms["before"], *forms["after"]][place].format(value=facts[name], events=stem.events)
        if place < len(forms["before"]):
            before += f"{form} "
        else:
            after += form
    return before + rng.choice(stem.nouns) + after


@functools.cache
def _templates() -> dict:
    return json.loads((PROMPTS / "templates.json").read_text(encoding="utf-8"))


@functools.cache
def _stem_forms(stem: str) -> StemForms:
    """How a stem is spoken of; one that the templates don't know, by its own name, whatever characters that has."""
    stems = _templates()["stems"]
    if stem in stems and stem != "*":
        return StemForms(**stems[stem])
    forms = StemForms(**stems["*"])
    nouns = [noun.format(stem=stem) for noun in forms.nouns]
    return StemForms(forms.verbs, nouns, forms.plural.format(stem=stem), forms.events)
