import dataclasses
import json
import math

import pytest

from riffusion.painting.measurements import Measurements, Verdict
from riffusion.painting.result import AttemptRecord, Result, Track, read_result, write_result

MEASURED = Measurements(
    Verdict.PERFORMED,
    level_db=-3.1,
    active_percent=100 * 0.07,  # has no short decimal
    voiced_percent=50.0,
    pitch_hz=math.nan,
    overtones_percent=40.0,
    onsets_db=2.0,
    low_percent=0.5,
    limited_db=0.0,
    limited_seconds=0.0,
    samples_cut=0,
    clipped_samples=3,
    backing_changed=0,
)
RESULT = Result(
    name="song",
    title="A song",
    prompt="add a vocal",
    task="add",
    measured=MEASURED,
    controls={"oracle": Measurements(Verdict.UNKNOWN, level_db=-math.inf, outside_grey=0.25)},
    kept=1,
    attempts=[AttemptRecord(number, 2.0, 1.5, Measurements(Verdict.FAILED, level_db=1.0)) for number in (0, 1)],
    settings={"seed": 0, "guidance_scale": 2.0, "image_guidance_scale": 1.5, "task": "add"},
    seconds=1.5,
    columns=151,
    min_frequency=0,
    max_frequency=10000,
    tracks=[Track("input", "input.wav", "input.png"), Track("stem", "stem.wav", "stem.png")],
    comparison="comparison.webp",
)


def test_result_json_has_the_keys_and_words_that_are_published(tmp_path):
    write_result(tmp_path, RESULT)
    assert json.loads((tmp_path / "result.json").read_text()) == {
        "sample": "song",
        "title": "A song",
        "prompt": "add a vocal",
        "task": "add",
        "measured": {
            "edit performed": "yes",
            "stem level dB": -3.1,
            "active %": 100 * 0.07,
            "voiced %": 50.0,
            "median pitch Hz": None,
            "overtones %": 40.0,
            "onsets dB": 2.0,
            "below 300 Hz %": 0.5,
            "limited dB": 0.0,
            "limited s": 0.0,
            "samples cut": 0,
            "input samples clipped": 3,
            "backing samples changed": 0,
        },
        "controls": {"oracle": {"edit performed": "-", "stem level dB": None, "outside, grey levels": 0.25}},
        "kept attempt": 1,
        "attempts": [
            {"attempt": number, "guidance_scale": 2.0, "image_guidance_scale": 1.5}
            | {"edit performed": "no", "stem level dB": 1.0}
            for number in (0, 1)
        ],
        "settings": {"seed": 0, "guidance_scale": 2.0, "image_guidance_scale": 1.5, "task": "add"},
        "seconds": 1.5,
        "columns": 151,
        "min_frequency": 0,
        "max_frequency": 10000,
        "tracks": [
            {"name": "input", "sound": "input.wav", "picture": "input.png"},
            {"name": "stem", "sound": "stem.wav", "picture": "stem.png"},
        ],
        "comparison": "comparison.webp",
    }


def test_what_was_written_is_read_and_written_the_same(tmp_path):
    for name in ("song", "renamed"):
        (tmp_path / name).mkdir()
    write_result(tmp_path / "song", RESULT)
    result = read_result(tmp_path / "song")
    assert result.measured.verdict is Verdict.PERFORMED
    assert result.tracks == RESULT.tracks
    assert math.isnan(result.measured.pitch_hz) and result.measured.outside_grey is None
    write_result(tmp_path / "renamed", result)
    first, again = ((tmp_path / name / "result.json").read_text() for name in ("song", "renamed"))
    assert first == again
    assert read_result(tmp_path / "renamed").name == "renamed"


def test_what_the_model_never_heard_is_recorded_only_if_there_is_some(tmp_path):
    assert "never heard" not in RESULT.to_json()
    unheard = dataclasses.replace(RESULT, never_heard=("violin", "choir"))
    write_result(tmp_path, unheard)
    assert json.loads((tmp_path / "result.json").read_text()) == RESULT.to_json() | {
        "never heard": ["violin", "choir"]
    } | {
        "measured": unheard.measured.row() | {"median pitch Hz": None},
        "controls": json.loads((tmp_path / "result.json").read_text())["controls"],
    }
    assert read_result(tmp_path).never_heard == ("violin", "choir")


def test_results_of_earlier_versions_are_read():
    value = RESULT.to_json()
    for name in ("task", "kept attempt", "attempts"):
        del value[name]
    del value["measured"]["overtones %"]
    result = Result.from_json(value, "song")
    assert (result.task, result.kept, result.attempts) == ("add", 0, [])
    assert "overtones %" not in result.measured.row()


@pytest.mark.parametrize("content", ["{}", '{"passed": true}', '{"measured": {}, "settings": {}, "tracks": []}'])
def test_another_programs_file_is_no_result(tmp_path, content):
    assert read_result(tmp_path) is None
    (tmp_path / "result.json").write_text(content)
    assert read_result(tmp_path) is None
