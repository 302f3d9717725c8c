import json
import random

import pytest

from riffusion import instructions
from riffusion.errors import UserError


def test_every_musdb18_song_has_labels():
    labels = instructions.read_prompts(instructions.MUSDB_LABELS)
    assert len(labels) == 150
    assert labels["A Classic Education - NightOwl"]["voice"] == "male"


def test_an_instruction_says_only_what_the_labels_say():
    labels = {"voice": "female", "register": "high", "style": "pop;rock", "delivery": "long held notes"}
    texts = {instructions.write_instruction("vocals", labels, random.Random(seed)).edit_prompt for seed in range(300)}
    assert len(texts) > 200
    assert any("female" in text and "high" in text for text in texts)
    assert not any(wrong in text.split() for text in texts for wrong in ("male", "low", "jazz"))


def test_a_song_without_labels_gets_no_claims():
    texts = [instructions.write_instruction("vocals", None, random.Random(seed)).edit_prompt for seed in range(50)]
    claims = {"male", "female", "high", "deep", "rock", "pop", "soft"}
    assert not claims & {word for text in texts for word in text.split()}


def test_every_stem_can_be_asked_for():
    for stem in ("vocals", "drums", "bass", "other", "guitar"):
        text = instructions.write_instruction(stem, {"style": "rock", "voice": "male"}, random.Random(0))
        assert "{" not in "".join(vars(text).values())
        assert stem == "vocals" or "male" not in text.edit_prompt
    assert "guitar" in instructions.write_instruction("guitar", None, random.Random(0)).edit_prompt


def test_json_lines_give_one_instruction_a_song(tmp_path):
    path = tmp_path / "prompts.json"
    rows = [{"file": "Band - Song", "edit_prompt": "add a choir"}, {"file": "a/Other.stem.mp4", "edit_prompt": "sing"}]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    prompts = instructions.read_prompts(path)
    assert prompts == {"Band - Song": "add a choir", "Other": "sing"}
    text = instructions.write_instruction("vocals", prompts["Band - Song"], random.Random(0))
    assert text.edit_prompt == "add a choir"


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
