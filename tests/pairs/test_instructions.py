import json
import random
import re

import pytest

from riffusion.pairs import instructions
from riffusion.pairs.features import Features
from riffusion.pairs.instructions import SongLabels
from riffusion.pairs.task_words import read_task
from riffusion.pairs.tasks import ADD, EXTRACT, KEEP, REMOVE, Edit
from riffusion.util.errors import UserError


def test_every_musdb18_song_has_labels():
    labels = instructions.read_prompts(instructions.MUSDB_LABELS)
    assert len(labels) == 150
    assert labels["A Classic Education - NightOwl"].facts["voice"] == "male"


def write(edit: Edit, labels: SongLabels, features: Features, number: int = 300) -> list[str]:
    backing = frozenset({"vocals", "bass", "drums", "other"}) - ({edit.stem} if edit.task == ADD else set())
    return [
        instructions.write_instruction(edit, backing, labels, features, random.Random(seed)).edit_prompt
        for seed in range(number)
    ]


def words(texts: list[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"[a-z'-]+", text.lower())}


def test_an_instruction_says_only_what_is_true():
    labels = SongLabels({"voice": "female", "register": "high", "style": "pop;rock", "delivery": "reverb"})
    texts = write(Edit(ADD, "vocals"), labels, Features(-1.0, 600.0, 1.0, 1.5))
    assert len(set(texts)) > 250
    assert {"female", "high", "pop", "rock", "reverb", "long", "sustained"} < words(texts)
    wrong = {"male", "man", "low", "deep", "jazz", "dry", "short", "loud", "soft", "busy", "sparse"}
    assert not wrong & words(texts)


def test_a_label_that_the_clip_belies_is_left_out():
    labels = SongLabels({"register": "high", "delivery": "long held notes", "mood": "soft"})
    heard = words(write(Edit(ADD, "vocals"), labels, Features(5.0, 180.0, 0.1, 3.0)))
    assert {"loud", "short", "busy"} < heard  # measured
    assert not {"high", "low", "long", "soft", "sustained"} & heard  # labelled, and not so here


def test_a_song_without_labels_gets_no_claims():
    texts = write(Edit(ADD, "vocals"), SongLabels(), Features(-1.0, 300.0, 0.4, 1.5))
    claims = {"male", "female", "child", "high", "low", "deep", "rock", "pop", "soft", "loud", "dry", "reverb", "long"}
    assert not claims & words(texts)


@pytest.mark.parametrize(("say_prob", "least", "most"), [(0.0, 0, 0), (0.4, 90, 150), (1.0, 300, 300)])
def test_how_much_of_what_is_known_is_said(say_prob, least, most):
    high, backing = Features(-1.0, 600.0, 0.4, 1.5), frozenset({"drums"})
    said = 0
    for seed in range(300):
        rng = random.Random(seed)
        text = instructions.write_instruction(
            Edit(ADD, "vocals"), backing, SongLabels(), high, rng, say_prob
        ).edit_prompt
        said += "high" in text
    assert least <= said <= most


@pytest.mark.parametrize("task", [ADD, REMOVE, EXTRACT], ids=str)
def test_every_stem_can_be_asked_for(task):
    for stem in ("vocals", "drums", "bass", "other", "guitar"):
        labels = SongLabels({"style": "bossa nova", "voice": "male", "mood": "sad"})
        texts = write(Edit(task, stem), labels, Features(-1.0))
        assert all("{" not in text and "  " not in text and " a a" not in text for text in texts)
        assert all(read_task(text) == task for text in texts)
        assert all(instructions.names_stem(text, stem) for text in texts)
        others = {"vocals", "drums", "bass", "other", "guitar"} - {stem}
        assert not any(instructions.names_stem(text, other) for text in texts for other in others)
        assert ("male" in words(texts)) == ("sad" in words(texts)) == (stem == "vocals")
        assert any("bossa nova" in text for text in texts)


@pytest.mark.parametrize(
    "stem", ['12" guitar', "{choir}", "a\\b", "two\nlines", "Lead (dry)", "{0.x}", "*", "%s", "Ωμ"]
)
def test_a_stem_may_have_any_name(stem):
    texts = write(Edit(ADD, stem), SongLabels({"style": "{pop}"}), Features(-1.0), number=50)
    assert all(stem in text for text in texts)
    assert all(instructions.names_stem(text, stem) for text in texts)
    described = instructions.write_instruction(
        Edit(REMOVE, stem), frozenset({"bass", stem}), SongLabels(), Features(-1.0), random.Random(0)
    )
    assert described.original_prompt == "music with " + " and ".join(sorted(["bass", stem]))


def test_lengths_go_from_three_words_to_a_sentence():
    labels = SongLabels({"style": "bossa nova", "voice": "male", "delivery": "reverb", "mood": "sad"})
    lengths = [len(text.split()) for text in write(Edit(ADD, "vocals"), labels, Features(5.0, 500.0, 1.0, 3.0))]
    assert min(lengths) <= 4
    assert max(lengths) >= 15


def test_keep_names_no_stem():
    texts = write(Edit(KEEP), SongLabels({"style": "pop"}), Features(0.0))
    assert all(read_task(text) == KEEP for text in texts)
    assert not any(
        instructions.names_stem(text, stem) for text in texts for stem in ("vocals", "drums", "bass", "other")
    )


def test_prompts_describe_what_is_heard():
    text = instructions.write_instruction(
        Edit(REMOVE, "bass"),
        frozenset({"bass", "drums", "vocals"}),
        SongLabels({"style": "pop"}),
        Features(0.0),
        random.Random(0),
    )
    assert text.original_prompt == "pop music with bass, drums and vocals"
    assert text.edited_prompt == "pop music with drums and vocals"


def test_json_lines_give_one_instruction_a_song(tmp_path):
    path = tmp_path / "prompts.json"
    rows = [{"file": "Band - Song", "edit_prompt": "add a choir"}, {"file": "a/Other.stem.mp4", "edit_prompt": "sing"}]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    prompts = instructions.read_prompts(path)
    assert prompts == {"Band - Song": SongLabels(sentence="add a choir"), "Other": SongLabels(sentence="sing")}
    assert set(write(Edit(ADD, "vocals"), prompts["Band - Song"], Features(0.0))) == {"add a choir"}


@pytest.mark.parametrize("broken", ["{not json", '{"file": "x"}', "[]", '{"file": 1, "edit_prompt": "y"}'])
def test_a_broken_line_is_named_by_its_number(tmp_path, broken):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"file": "a", "edit_prompt": "b"}\n' + broken + "\n")
    with pytest.raises(UserError, match="prompts.jsonl:2: "):
        instructions.read_prompts(path)


def test_text_that_is_not_utf8_is_named_by_its_line(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b'{"file": "a", "edit_prompt": "b"}\n{"file": "\xff", "edit_prompt": "b"}\n')
    with pytest.raises(UserError, match="prompts.jsonl:2: not UTF-8"):
        instructions.read_prompts(path)


def test_a_broken_table_is_named_by_its_line(tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text("track\tvoice\na song\tmale\nanother song\n")
    with pytest.raises(UserError, match="labels.tsv:3: 1 columns"):
        instructions.read_prompts(path)
    path.write_text("song\tvoice\n")
    with pytest.raises(UserError, match="labels.tsv:1: .*track"):
        instructions.read_prompts(path)
    with pytest.raises(UserError, match="no such prompt file"):
        instructions.read_prompts(tmp_path / "missing.tsv")
