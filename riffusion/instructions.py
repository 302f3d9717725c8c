"""What a person might ask for: instructions written from a song's labels, or read from a file."""

import csv
import functools
import json
import random
from dataclasses import dataclass
from pathlib import Path

from riffusion.errors import UserError

PROMPTS = Path(__file__).resolve().parent.parent / "prompts"
MUSDB_LABELS = PROMPTS / "musdb18_labels.tsv"
LABELS = ("voice", "register", "delivery", "mood", "style")
KEEP_LABEL = 0.6  # chance of each label to be said: what is left out can't become a song's name tag


@dataclass(frozen=True)
class Instruction:
    """The three texts of a pair, as InstructPix2Pix names them."""

    original_prompt: str
    edit_prompt: str
    edited_prompt: str


def read_prompts(path: Path) -> dict[str, str | dict[str, str]]:
    """Song name to its one instruction (JSON lines `{"file": ..., "edit_prompt": ...}`) or to its labels (TSV).

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


def _read_labels(path: Path, lines: list[str]) -> dict[str, str | dict[str, str]]:
    table = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    heading = next(table, [])
    if "track" not in heading:
        raise UserError(f"{path}:1: the heading has no column named track")
    labels: dict[str, str | dict[str, str]] = {}
    for number, row in enumerate(table, start=2):
        if len(row) != len(heading):
            raise UserError(f"{path}:{number}: {len(row)} columns where the heading has {len(heading)}")
        facts = dict(zip(heading, row, strict=True))
        labels[facts["track"]] = {name: facts[name] for name in LABELS if facts.get(name)}
    return labels


def _read_json_lines(path: Path, lines: list[str]) -> dict[str, str | dict[str, str]]:
    prompts: dict[str, str | dict[str, str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}: not JSON: {error.msg}") from error
        if not (isinstance(row, dict) and all(isinstance(row.get(key), str) for key in ("file", "edit_prompt"))):
            raise UserError(f'{path}:{number}: not of the form {{"file": ..., "edit_prompt": ...}}')
        prompts[Path(row["file"]).name.removesuffix(".stem.mp4")] = row["edit_prompt"]
    return prompts


def write_instruction(stem: str, labels: str | dict[str, str] | None, rng: random.Random) -> Instruction:
    """An instruction to add `stem`, drawn from templates and a song's labels.

    Without labels it names the stem and claims nothing else. A string is taken as it is.
    """
    labels = {"edit_prompt": labels} if isinstance(labels, str) else labels or {}
    style = labels.get("style", "").split(";")[0]
    backing = f"{style} music".strip()
    plural = _templates(stem)["plural"]
    edit_prompt = labels.get("edit_prompt") or _phrase(stem, labels, rng)
    return Instruction(f"{backing} without {plural}", edit_prompt, f"{backing} with {plural}")


def _phrase(stem: str, labels: dict[str, str], rng: random.Random) -> str:
    templates = _templates(stem)
    said = {
        name: rng.choice(labels[name].split(";")) for name in LABELS if name in labels and rng.random() < KEEP_LABEL
    }
    if stem != "vocals":
        said = {name: value for name, value in said.items() if name == "style"}
    before = [said[name] for name in ("mood", "register", "voice", "style") if name in said]
    noun = " ".join([*before, rng.choice(templates["nouns"])])
    text = rng.choice(templates["phrases"]).format(verb=rng.choice(templates["verbs"]), noun=noun)
    for vowel in "aeiou":
        text = text.replace(f" a {vowel}", f" an {vowel}")
    return f"{text}, {said['delivery']}" if "delivery" in said else text


@functools.cache
def _templates(stem: str) -> dict:
    templates = json.loads((PROMPTS / "templates.json").read_text(encoding="utf-8"))
    if stem in templates:
        return templates[stem]
    text = json.dumps(templates["*"]).replace("{stem}", stem)
    return json.loads(text)
