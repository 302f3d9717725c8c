import json
from dataclasses import fields

from riffusion.pairs.features import Features
from riffusion.pairs.instructions import Instruction
from riffusion.pairs.pair import ImageFiles, Pair, Scale, Source, read_records, write_records
from riffusion.pairs.tasks import KEEP, REMOVE, Edit

PAIR = Pair(
    ImageFiles("a_original.png", "a_vocals.png"),
    Instruction("pop music with bass", "remove the voice", "pop music"),
    Source("Band - Song", 3, 15.33, -2, "bass, vocals"),
    Edit(REMOVE, "vocals"),
    Scale("stem", 0.5, 12.25, 0.125),
    Features(-3.5, 440.0, 0.25, 2.5),
)
COLUMNS = [
    "original_image_file_name",
    "edited_image_file_name",
    "original_prompt",
    "edit_prompt",
    "edited_prompt",
    "song",
    "clip",
    "start_seconds",
    "semitones",
    "backing_stems",
    "painted_stem",
    "task",
    "target",
    "gain",
    "max_value",
    "changed_share",
    "level_db",
    "median_f0_hz",
    "note_seconds",
    "events_per_second",
]


def test_records_are_flat_and_in_the_order_of_published_datasets(tmp_path):
    write_records(tmp_path / "metadata.jsonl", [PAIR])
    record = json.loads((tmp_path / "metadata.jsonl").read_text())
    assert list(record) == COLUMNS
    assert (record["task"], record["painted_stem"], record["median_f0_hz"]) == ("remove", "vocals", 440.0)


def test_what_was_written_is_read(tmp_path):
    pairs = [PAIR, Pair(PAIR.images, PAIR.text, PAIR.source, Edit(KEEP), PAIR.scale, Features())]
    write_records(tmp_path / "metadata.jsonl", pairs)
    assert read_records(tmp_path / "metadata.jsonl") == pairs


def test_a_word_that_was_not_measured_yet_is_read_as_its_default(tmp_path):
    old = PAIR.columns()
    del old["note_seconds"]
    (tmp_path / "metadata.jsonl").write_text(json.dumps(old) + "\n")
    (read,) = read_records(tmp_path / "metadata.jsonl")
    assert read.features == Features(-3.5, 440.0, events_per_second=2.5)
    assert {each.name for each in fields(Features)} <= set(read.columns())
