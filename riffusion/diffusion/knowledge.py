"""What a model was trained on, as far as its folder says so, and what an instruction asks for beyond that."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from riffusion.diffusion.model import KNOWLEDGE_FILE
from riffusion.diffusion.model_files import find_file
from riffusion.pairs.instructions import OVER_WHAT_IS_THERE
from riffusion.pairs.lexicon import instrument, instruments, words
from riffusion.pairs.task_words import clauses
from riffusion.util import files
from riffusion.util.errors import UserError

if TYPE_CHECKING:
    import datasets

NOT_ASKED = frozenset({"no", "not", "never", "except", "minus"})  # what follows isn't to be painted


@dataclass(frozen=True)
class Knowledge:
    """What the pairs held that a model was trained on: `instruments` are those that their instructions name.

    `limits` are sentences about what the model can't do and `poor_tasks` the tasks whose results are worse than leaving
    the music as it is, which nobody but its makers can know.
    """

    pairs: int
    songs: int
    stems: tuple[str, ...]
    instruments: tuple[str, ...]
    limits: tuple[str, ...] = ()
    poor_tasks: tuple[str, ...] = ()

    def with_more(self, other: "Knowledge") -> "Knowledge":
        """What a model knows that was trained on this after `other`, perhaps on the same songs."""
        stems, instruments = (
            tuple(sorted({*mine, *theirs}))
            for mine, theirs in ((self.stems, other.stems), (self.instruments, other.instruments))
        )
        return Knowledge(max(self.pairs, other.pairs), max(self.songs, other.songs), stems, instruments)


def knowledge_of(pairs: "datasets.Dataset", prompts: Iterable[str]) -> Knowledge:
    """What pairs teach, which have these instructions; songs and stems as far as they are told."""
    told = {name: sorted(filter(None, set(pairs[name]))) for name in ("song", "painted_stem") if name in pairs.features}
    named = {name for prompt in set(prompts) for name in instruments_in(prompt)}
    return Knowledge(len(pairs), len(told.get("song", ())), tuple(told.get("painted_stem", ())), tuple(sorted(named)))


def save_knowledge(folder: Path, knowledge: Knowledge) -> None:
    """Write it beside the model."""
    files.save_json(folder / KNOWLEDGE_FILE, {name: value for name, value in asdict(knowledge).items() if value})


def load_knowledge(model_id: str, revision: str | None = None, cache_dir: Path | None = None) -> Knowledge | None:
    """What a model folder or Hub model says that it knows, None if nothing. Raises UserError if that can't be read."""
    path = find_file(model_id, KNOWLEDGE_FILE, revision, cache_dir)
    if path is None:
        return None
    values: dict[str, Any] = {"songs": 0, "stems": [], "instruments": []} | files.load_json(path)
    try:
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return Knowledge(**values | lists)
    except TypeError as error:
        raise UserError(f"{path}: not a description of what a model knows ({error})") from error


def instruments_in(prompt: str) -> list[str]:
    """The instruments that a text names, each once; of a compound the last one, but a bass guitar is a bass."""
    found = []
    for clause in clauses(prompt):
        for is_named, run in groupby(map(instrument, clause), key=bool):
            *before, last = run
            if is_named:
                found.append("bass" if before == ["bass"] and last == "guitar" else last)
    return list(dict.fromkeys(found))


def unheard(prompt: str, knowledge: Knowledge) -> list[str]:
    """The instruments that an instruction asks for though no instruction did that the model was trained on.

    What it says of the music that is there ("over the violin") doesn't count, nor what it doesn't want.
    """
    asked = [text for clause in clauses(without_context(prompt)) if (text := " ".join(wanted(clause)))]
    return [name for name in instruments_in(", ".join(asked)) if name not in knowledge.instruments]


def without_context(prompt: str) -> str:
    """An instruction without what it says of parts that are there."""
    nouns = "|".join(map(re.escape, instruments()))
    return re.sub(rf"{OVER_WHAT_IS_THERE}(?:{nouns})s?\b", "", prompt.lower())


def wanted(clause: list[str]) -> list[str]:
    """The words of a clause up to one that says what isn't wanted."""
    unwanted = NOT_ASKED | words().without
    return clause[: next((place for place, word in enumerate(clause) if word in unwanted), len(clause))]
