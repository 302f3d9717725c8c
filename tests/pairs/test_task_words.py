import random
from pathlib import Path

import pytest

from riffusion.pairs import instructions
from riffusion.pairs.features import Features
from riffusion.pairs.task_words import read_instruction, read_task
from riffusion.pairs.tasks import ADD, KEEP, TASKS, Edit

LINES = Path(__file__).with_name("task_phrases.tsv").read_text(encoding="utf-8").splitlines()
PHRASES = [tuple(line.split("\t")) for line in LINES]
STEMS = ("vocals", "drums", "bass", "other", "guitar", "theremin", "Lead synth (dry)", '12" guitar')


def test_what_people_write_is_read_as_they_mean_it():
    read = {phrase: read_task(phrase).name for _, phrase in PHRASES}
    assert len(read) > 600
    assert not [(task, read[phrase], phrase) for task, phrase in PHRASES if read[phrase] != task]


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_every_template_is_read_as_its_own_task(task):
    labels = list(instructions.read_prompts(instructions.MUSDB_LABELS).values())
    rng = random.Random(task.name)
    for _ in range(500):
        edit = Edit(task, rng.choice(STEMS) if task.has_stem else "")
        features = Features(rng.uniform(-10, 5), rng.uniform(0, 700), rng.random(), rng.uniform(0, 4))
        text = instructions.write_instruction(edit, frozenset({"bass", "drums"}), rng.choice(labels), features, rng)
        assert read_task(text.edit_prompt) == task, text.edit_prompt


@pytest.mark.parametrize(
    ("phrase", "warning"),
    [
        ("a warm choir", "no verb"),
        ("qwerty", "no verb"),
        ("", "no verb"),
        ("remove the vocals and add a choir", r"several things \(add, remove\)"),
        ("make the drums louder", "not changed"),
        ("replace the vocals with a flute", "not changed"),
    ],
)
def test_doubt_is_told_and_takes_nothing_away(phrase, warning):
    reading = read_instruction(phrase)
    assert reading.task == ADD
    assert warning.split()[0] in reading.warning


@pytest.mark.parametrize("phrase", ["add a choir", "remove the drums", "only the bass", "keep it as it is", "sing"])
def test_what_is_clear_has_no_warning(phrase):
    assert not read_instruction(phrase).warning


@pytest.mark.parametrize(
    "phrase", ["\n", "!!!", "don't", "no", "only", "without", "the", "take out", "not", "'", "é" * 9999]
)
def test_odd_text_adds_or_keeps(phrase):
    assert read_task(phrase) in (ADD, KEEP)
