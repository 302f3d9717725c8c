import json
from pathlib import Path

import pytest
from conftest import pair_dataset

from riffusion.diffusion import model
from riffusion.diffusion.knowledge import (
    Knowledge,
    instruments_in,
    knowledge_of,
    load_knowledge,
    save_knowledge,
    unheard,
)
from riffusion.pairs.instructions import PROMPTS
from riffusion.pairs.lexicon import instruments, words
from riffusion.pairs.tasks import TASKS
from riffusion.util.errors import UserError

SMALL = Path(__file__).parents[2] / "checkpoints" / "small"
BAND = Knowledge(100, 10, ("bass", "drums", "other", "vocals"), ("bass", "drums", "guitar", "vocals"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("add a soft violin, long notes", ["violin"]),
        ("Trumpets and a choir", ["trumpet", "choir"]),
        ("a female singer", ["vocals"]),
        ("a bass guitar", ["bass"]),
        ("a bass drum and a bass clarinet", ["drums", "clarinet"]),
        ("an electric guitar solo", ["guitar"]),
        ("a hi-hat groove", ["drums"]),
        ("a melody in the same key", []),
        ("the violin's line", ["violin"]),
        ("", []),
    ],
)
def test_a_text_names_instruments(text, names):
    assert instruments_in(text) == names


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("add a violin", ["violin"]),
        ("add drums and a trumpet over the violin", ["trumpet"]),
        ("a choir like the one in church, no organ", ["choir"]),
        ("add a bass line with the strings", []),
        ("a singer without violins", []),
        ("put a solo violin on top, don't change the piano", ["violin"]),
        ("add a busy drum beat", []),
        ("add something nice", []),
        ("remove the trumpet", ["trumpet"]),
    ],
)
def test_what_no_instruction_asked_for_before_is_unheard(prompt, names):
    assert unheard(prompt, BAND) == names


def test_every_word_for_an_instrument_is_one_for_a_part():
    assert set(instruments()) <= words().parts


def test_pairs_teach_what_they_are_made_of():
    pairs = pair_dataset(3).add_column("song", ["A", "B", "A"]).add_column("painted_stem", ["vocals", "", "flute"])
    prompts = ["add a vocal", "change nothing", "add a flute over the drums"]
    assert knowledge_of(pairs, prompts) == Knowledge(3, 2, ("flute", "vocals"), ("drums", "flute", "vocals"))
    assert knowledge_of(pair_dataset(2), ["sing"] * 2) == Knowledge(2, 0, (), ())
    more = Knowledge(5, 1, ("harp",), ("harp",), ("It can't count.",)).with_more(BAND)
    assert more == Knowledge(100, 10, tuple(sorted({"harp", *BAND.stems})), tuple(sorted({"harp", *BAND.instruments})))


def test_a_model_says_what_it_knows_or_nothing(tmp_path):
    assert load_knowledge(str(tmp_path)) is None
    for knowledge in (BAND, Knowledge(1, 0, (), (), ("None at all.",), ("keep",))):
        save_knowledge(tmp_path, knowledge)
        assert load_knowledge(str(tmp_path)) == knowledge
    (tmp_path / model.KNOWLEDGE_FILE).write_text('{"paris": 3}')
    with pytest.raises(UserError, match="knowledge.json: not a description of what a model knows"):
        load_knowledge(str(tmp_path))


def test_what_a_model_knows_changes_no_result(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    before = model.digest(str(tmp_path))
    save_knowledge(tmp_path, BAND)
    assert model.digest(str(tmp_path)) == before is not None


def test_the_shipped_model_knows_what_its_recipe_teaches():
    knowledge = load_knowledge(str(SMALL))
    assert knowledge is not None
    assert knowledge.stems == ("bass", "drums", "guitar", "other", "vocals")
    forms = json.loads((PROMPTS / "templates.json").read_text())["stems"]
    nouns = [noun.format(stem=stem) for stem in knowledge.stems for noun in forms.get(stem, forms["*"])["nouns"]]
    named = {name for noun in nouns for name in instruments_in(f"add a {noun}")}
    assert knowledge.instruments == tuple(sorted(named))
    for prompt in ("add a violin", "add a trumpet", "add a choir"):
        assert unheard(prompt, knowledge)
    assert set(knowledge.poor_tasks) <= {task.name for task in TASKS}
    card = (SMALL / "README.md").read_text()
    assert "9 000 at random" in card and "4 400 at random" in card and knowledge.pairs == 9000 + 4400
    assert knowledge.songs == 64 + 3 + 6 and all(f" {count}" in card for count in ("64,", "3,", "6,"))
