import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import RATE, pair_dataset, tone
from test_result import RESULT

from riffusion import audio
from riffusion.diffusion.model import ModelFacts
from riffusion.painting import jobs
from riffusion.painting.dataset_items import read_items
from riffusion.painting.inputs import InputSong, read_song
from riffusion.painting.options import PaintOptions
from riffusion.painting.result import write_result
from riffusion.pairs.tasks import ADD, KEEP
from riffusion.util.distributed import this_share

OUT = Path("out")


@pytest.fixture
def song(tmp_path) -> InputSong:
    audio.save_wav(tmp_path / "Song.wav", tone(220, 1.0), RATE)
    return read_song(tmp_path / "Song.wav", None, None, None, tmp_path)


def test_folders_are_named_after_songs_and_after_instructions_where_there_are_several(song):
    one = PaintOptions(base_save_path=OUT, prompt=("add a vocal",))
    assert [request.folder for request in jobs.request_songs([song], one)] == [OUT / "Song"]
    several = replace(one, prompt=("Add: a fox!", "add a fox", "Add: a fox!", " "))
    folders = [request.folder for request in jobs.request_songs([song], several)]
    assert folders == [OUT / "Song-add-a-fox", OUT / "Song-add-a-fox-2", OUT / "Song"]
    long = replace(several, prompt=("add " + "x" * 100, "b"))
    assert jobs.request_songs([song], long)[0].folder == OUT / f"Song-add-{'x' * 56}"


def test_names_that_a_file_system_may_confuse_are_numbered_in_each_guidances_folder(song):
    options = PaintOptions(base_save_path=OUT, prompt=("add a vocal",), guidance_scale=(2.0, 5.0))
    folders = [request.folder for request in jobs.request_songs([song, replace(song, name="song")], options)]
    assert folders == [OUT / "text-2/Song", OUT / "text-2/song-2", OUT / "text-5/Song", OUT / "text-5/song-2"]


def test_items_are_named_after_their_number_and_instruction():
    items = read_items(pair_dataset(2), KEEP)
    requests = jobs.request_items(items, PaintOptions(base_save_path=OUT))
    assert [request.folder for request in requests] == [OUT / "sample-000-add-a-0", OUT / "sample-001-add-a-1"]
    assert [request.prompt for request in requests] == ["add a 0", "add a 1"]


def test_a_seed_is_the_one_asked_for_or_an_earlier_runs_or_a_random_one(tmp_path):
    (tmp_path / "song").mkdir()
    write_result(tmp_path / "song", replace(RESULT, settings={"seed": 7}))
    folders, share = [tmp_path / "missing", tmp_path / "song"], this_share()
    assert jobs.choose_seed(folders, PaintOptions(seed=0), share) == 0
    assert jobs.choose_seed(folders, PaintOptions(), share) == 7
    drawn = {jobs.choose_seed(folders, PaintOptions(overwrite=True), share) for _ in range(4)}
    assert len(drawn) > 1


def test_a_song_job_records_all_that_shapes_its_result(song):
    options = PaintOptions(
        model_id="a model", prompt=("sax solo",), task="keep", seed=3, end=0.5, pan=0.5, negative_prompt="drums"
    )
    (job,) = jobs.song_jobs(jobs.request_songs([song], options), ModelFacts(), "float32", options)
    assert (job.task, job.prompt, job.title) == (KEEP, "sax solo", "Song")
    assert (job.settings.guidance_scale, job.settings.image_guidance_scale, job.settings.seed) == (15.0, 1.5, 3)
    assert job.recorded == {
        "guidance_scale": 15.0,
        "image_guidance_scale": 1.5,
        "num_inference_steps": 9,
        "seed": 3,
        "scheduler": "unipc",
        "guidance_rescale": 0.0,
        "guidance_interval": (0.0, 1.0),
        "negative_prompt": "drums",
        "prompt": "sax solo",
        "task": "keep",
        "model_id": "a model",
        "model_sha256": None,
        "target": "mix",
        "num_candidates": 1,
        "retries": 0,
        "dtype": "float32",
        "start": 0.0,
        "end": 0.5,
        "without_stem": None,
        "stem_gain_db": 0.0,
        "pan": 0.5,
        "format": "wav",
        "bits": 16,
        "input_sha256": song.sha256,
    }


def test_an_item_job_records_both_pictures():
    items = read_items(pair_dataset(1))
    options = PaintOptions(seed=3)
    (job,) = jobs.item_jobs(jobs.request_items(items, options), ModelFacts(), "float32", options)
    assert (job.task, job.prompt, job.title) == (ADD, "add a 0", "sample-000")
    assert job.recorded["input_sha256"] == items[0].sha256 != job.recorded["target_sha256"]
    assert job.recorded["target_sha256"] == hashlib.sha256(items[0].truth.tobytes()).hexdigest()
    assert "bits" not in job.recorded
