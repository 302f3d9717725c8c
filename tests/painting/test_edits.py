import json
from pathlib import Path

import pytest

from riffusion.painting.edits import EditRow, read_edits
from riffusion.painting.options import PaintOptions
from riffusion.util.errors import UserError


def read(path: Path, text: str, **flags: object) -> tuple[list[EditRow], dict[str, str]]:
    path.write_text(text, encoding="utf-8")
    failures = dict[str, str]()
    return read_edits(PaintOptions(edits=path, **flags), failures), failures


def test_a_row_is_an_edit_whether_json_or_a_table(tmp_path):
    row = {"audio": "song.wav", "prompt": "add a café", "task": "add", "start": "0:10", "end": 30, "seed": 7}
    row |= {"guidance_scale": 5, "image_guidance_scale": "2.5", "name": "first", "pan": -0.5}
    cells = [str(value) for value in row.values()]
    lines = json.dumps(row) + '\n\n{"onto": "first", "prompt": "add drums", "start": 30.5}\n'
    ours, failures = read(tmp_path / "edits.jsonl", lines, num_inference_steps=3, seed=1)
    assert failures == {}
    first, second = ours
    assert [one.place for one in ours] == [f"{tmp_path}/edits.jsonl:1", f"{tmp_path}/edits.jsonl:3"]
    assert (first.options.audio, first.options.prompt) == ((f"{tmp_path}/song.wav",), ("add a café",))
    assert (first.options.start, first.options.end, first.options.seed, first.options.pan) == (10.0, 30.0, 7, -0.5)
    assert (first.options.guidance_grid(), first.options.task, first.name) == ([(5.0, 2.5)], "add", "first")
    assert (first.options.num_inference_steps, second.options.num_inference_steps) == (3, 3)
    assert (second.onto, second.options.audio, second.options.start, second.options.seed) == ("first", None, 30.5, 1)
    for separator in ",;\t":
        table = separator.join(row) + "\r\n" + separator.join(cells) + "\r\n"
        (from_table,), failures = read(tmp_path / "edits.csv", "\ufeff" + table, num_inference_steps=3, seed=1)
        assert failures == {}
        assert vars(from_table.options) | {"edits": None} == vars(first.options) | {"edits": None}


def test_what_a_row_leaves_out_comes_from_the_flags(tmp_path):
    flags = {"audio": ("here.wav",), "prompt": ("sing",), "without_stem": "vocals", "pan": 0.5}
    text = "prompt,start,name,onto\n,,base,\nadd drums,5,,\n,,,base\n"
    rows, failures = read(tmp_path / "edits.csv", text, **flags)
    assert failures == {}
    assert [row.options.audio for row in rows] == [("here.wav",), ("here.wav",), None]
    assert [row.options.prompt for row in rows] == [("sing",), ("add drums",), ("sing",)]
    assert [row.options.without_stem for row in rows] == ["vocals", "vocals", None]
    assert [row.options.start for row in rows] == [0.0, 5.0, 0.0]


def test_every_bad_row_is_named_with_its_reason(tmp_path):
    bad = {
        '{"audio": "a.wav", "prompt": "p", "start": "1:x"}': "start: can't be '1:x'",
        '{"audio": "a.wav", "prompt": "p", "start": -1}': "start: must be a time as 75.5 or 1:15.5, not -1",
        '{"audio": "a.wav", "prompt": "p", "start": 2, "end": "0:01"}': "end must be after start",
        '{"audio": "a.wav", "prompt": "p", "task": "replace"}': "task: must be one of add, remove, extract, keep",
        '{"audio": "a.wav", "prompt": "p", "seed": 1.5}': "seed: can't be 1.5",
        '{"audio": "a.wav", "prompt": "p", "pan": 2}': "pan: must be from -1 to 1, not 2",
        '{"audio": "a.wav", "prompt": "p", "guidance_scale": [2, 3]}': "must be a text or a number, not [2, 3]",
        '{"audio": "a.wav", "prompt": "p", "steps": 3}': "'steps' is no column",
        '{"audio": "a.wav"}': "has no prompt",
        '{"prompt": "p"}': "has neither audio nor onto",
        '{"audio": "-", "prompt": "p"}': "standard input",
        '{"audio": "a.wav", "onto": "good", "prompt": "p"}': "can't have audio or without_stem",
        '{"onto": "later", "prompt": "p"}': "no row before it is named 'later'",
        '{"audio": "a.wav", "prompt": "p", "name": "GOOD"}': f"name: 'GOOD' is that of {tmp_path}/edits.jsonl:1, too",
        '{"audio": "a.wav", "prompt": "p", "name": "../x"}': "must be the name of a folder",
        "[1, 2]": "not a JSON object",
        '{"audio"': "not JSON",
    }
    good = '{"audio": "a.wav", "prompt": "p", "name": "good"}'
    text = "\n".join([good, *bad, good.replace("good", "later")])
    rows, failures = read(tmp_path / "edits.jsonl", text)
    assert [row.name for row in rows] == ["good", "later"]
    assert list(failures) == [f"{tmp_path}/edits.jsonl:{line}" for line in range(2, len(bad) + 2)]
    for (place, failure), reason in zip(failures.items(), bad.values(), strict=True):
        assert failure.startswith(f"{place}: ") and reason in failure and "\n" not in failure


def test_a_list_that_cannot_be_read_is_one_line(tmp_path):
    for text, reason in (
        ("audio,promt\na.wav,sing\n", r"csv:1: the header has 'promt', where each column is one of audio, onto"),
        ("audio,audio\na.wav,b.wav\n", r"csv:1: the header has 'audio'"),
        ("audio,prompt\n", "contains no edits"),
        ("", "contains no edits"),
    ):
        with pytest.raises(UserError, match=reason):
            read(tmp_path / "edits.csv", text)
    rows, failures = read(tmp_path / "edits.csv", 'audio,prompt\na.wav,"two\nlines"\na.wav,sing,more\n')
    assert rows[0].options.prompt == ("two\nlines",)
    assert failures == {f"{tmp_path}/edits.csv:4": f"{tmp_path}/edits.csv:4: has more cells than the header"}
    (tmp_path / "latin.csv").write_bytes(b"audio,prompt\na.wav,caf\xe9\n")
    for name, reason in (("latin.csv", "not UTF-8"), ("missing.csv", "can't read this list")):
        with pytest.raises(UserError, match=f"{name}: {reason}"):
            read_edits(PaintOptions(edits=tmp_path / name), {})
