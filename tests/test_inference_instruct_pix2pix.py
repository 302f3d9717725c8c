import dataclasses
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, TINY_CLIP, tone, write_original_folder, write_pair_folder, write_picture, write_song
from PIL import Image

import inference_instruct_pix2pix
import preprocess_musdb
from riffusion import audio
from riffusion.diffusion import model
from riffusion.diffusion.knowledge import Knowledge, save_knowledge
from riffusion.diffusion.windows import tile
from riffusion.painting import inputs, paint_song
from riffusion.painting.inputs import read_song
from riffusion.painting.jobs import needed_bytes
from riffusion.painting.long_song import TiledSong
from riffusion.painting.options import PaintOptions
from riffusion.painting.run import open_inputs, open_items
from riffusion.pairs.dataset import load_splits
from riffusion.recordings import ffmpeg
from riffusion.spectrogram import SpectrogramParams
from riffusion.util.errors import UserError

ROOT = Path(__file__).parent.parent


@pytest.fixture(params=["stem", "mix"])
def each_model(request, tiny_models) -> Path:
    return tiny_models[request.param]


@pytest.fixture
def tiny_model(tiny_models) -> Path:
    return tiny_models["stem"]


@pytest.fixture(scope="module")
def long_model(tiny_models, tmp_path_factory) -> Path:
    """A model with clips of 2.55 s."""
    folder = tmp_path_factory.mktemp("long") / "model"
    shutil.copytree(tiny_models["stem"], folder)
    model.save_facts(folder, model.ModelFacts("stem", SpectrogramParams(num_frames=256), 2.0, 1.2))
    return folder


def run(model_id: Path, output: Path, *flags: str) -> int:
    common = ["--model_id", str(model_id), "--base_save_path", str(output), "--num_inference_steps", "2", "--seed"]
    return inference_instruct_pix2pix.main(inference_instruct_pix2pix.parse_args([*common, *flags]))


def integers(path: Path, bits: int) -> np.ndarray:
    return audio.to_integers(audio.load_audio(path)[0], bits)


def grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), int)


@pytest.mark.parametrize(
    ("rate", "channels", "subtype", "bits"),
    [(44100, 1, "PCM_16", 16), (48000, 2, "PCM_24", 24), (22050, 6, "FLOAT", 24)],
)
def test_the_output_is_the_input_and_the_stem_to_the_last_bit(each_model, tmp_path, rate, channels, subtype, bits):
    samples = np.random.default_rng(0).uniform(-1, 1, (int(1.5 * rate), channels))
    soundfile.write(tmp_path / "song.wav", samples, rate, subtype=subtype)
    assert run(each_model, tmp_path / "out", "--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal") == 0
    folder = tmp_path / "out" / "song"
    original, painted, stem = (integers(folder / f"{name}.wav", bits) for name in ("input", "painted", "stem"))
    assert (painted - stem == original).all()
    assert stem.any()
    assert (original == integers(tmp_path / "song.wav", bits)).all()
    assert soundfile.info(folder / "painted.wav").samplerate == rate
    assert original.shape == (channels, int(1.5 * rate))
    for name in ("input", "painted", "stem"):
        assert Image.open(folder / f"{name}.png").height == 512
    result = json.loads((folder / "result.json").read_text())
    assert result["prompt"] == "add a vocal"
    assert result["measured"]["edit performed"] in ("yes", "no")
    assert result["measured"]["backing samples changed"] == 0
    assert json.loads((folder.parent / "results.json").read_text()) == [result]


def test_the_same_seed_paints_the_same_whatever_the_batch(each_model, tmp_path):
    audio.save_wav(tmp_path / "song.wav", tone(220, 2.5), RATE)
    flags = ("--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal", "--name", "named")
    for batch in ("1", "3"):
        run(each_model, tmp_path / batch, *flags, "--batch_size", batch)
    one, three = (grey(tmp_path / batch / "named" / "stem.png") for batch in ("1", "3"))
    assert one.min() < 128
    assert np.abs(one - three).mean() < 0.5  # a level: in noise, Griffin-Lim amplifies the last bits


def test_only_a_region_is_painted(each_model, tmp_path):
    rate = 48000
    song = np.stack([audio.resample(tone(f, 4.0), RATE, rate)[0] for f in (220, 330)])
    soundfile.write(tmp_path / "song.wav", song.T, rate, subtype="PCM_24")
    flags = ("--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal", "--start", "0:01.5", "--end", "2.75")
    run(each_model, tmp_path / "out", *flags)
    folder = tmp_path / "out" / "song"
    original, painted, stem = (integers(folder / f"{name}.wav", 24) for name in ("input", "painted", "stem"))
    outside = np.r_[: int(1.5 * rate), int(2.75 * rate) : song.shape[1]]
    assert (painted - stem == original).all()
    assert not stem[:, outside].any()
    assert np.abs(stem[:, int(1.6 * rate) : int(2.6 * rate)]).reshape(2, 10, -1).any(axis=2).all()


def test_windows_follow_one_another_without_a_gap(tiny_model, tmp_path):
    audio.save_wav(tmp_path / "song.wav", tone(220, 4.0), RATE)
    run(tiny_model, tmp_path / "out", "--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal")
    stem = audio.load_audio(tmp_path / "out" / "song" / "stem.wav")[0][0]
    seams = [seam * 441 for seam in tile(-(-401 // 8), 8).scaled(8).seams()[1:-1]]
    assert len(seams) == 8
    level = np.sqrt((stem[: len(stem) // 441 * 441].reshape(-1, 441) ** 2).mean(axis=1))
    dips = [level[seam // 441 - 2 : seam // 441 + 2].min() for seam in seams]
    assert not list(tmp_path.rglob(".painting*"))
    assert np.median(dips) > 0.5 * np.median(level)  # nothing fades out where windows meet


def test_pan_gain_format_and_tags(tiny_model, tmp_path):
    with soundfile.SoundFile(tmp_path / "song.flac", "w", RATE, 2, "PCM_16") as file:
        file.title = "Title"
        file.write(np.tile(tone(220, 1.0).T, (1, 2)))
    flags = ("--audio", str(tmp_path / "song.flac"), "--prompt", "add a vocal", "--format", "flac", "--bits", "24")
    run(tiny_model, tmp_path / "centre", *flags)
    run(tiny_model, tmp_path / "left", *flags, "--pan", "-1", "--stem_gain_db", "-20")
    folders = [tmp_path / name / "song" for name in ("centre", "left")]
    centre, left = (integers(folder / "stem.flac", 24) for folder in folders)
    assert not left[1].any()
    assert np.linalg.norm(left[0]) / np.linalg.norm(centre[0]) == pytest.approx(0.1 * np.sqrt(2), rel=0.02)
    with soundfile.SoundFile(folders[0] / "painted.flac") as file:
        assert (file.title, file.subtype) == ("Title", "PCM_24")


def test_a_song_in_stems_loses_the_stem_that_is_asked_away(tiny_model, tmp_path):
    song = write_song(tmp_path / "Band - Song", seconds=1.0)
    run(tiny_model, tmp_path, "--audio", str(song), "--without_stem", "vocals", "--prompt", "sing", "--name", "out")
    parts = sum(audio.load_audio(song / f"{name}.wav")[0] for name in ("bass", "drums", "other"))
    assert integers(tmp_path / "out" / "input.wav", 16) == pytest.approx(audio.to_integers(parts), abs=1)


def test_the_seeds_command_line_on_a_dataset(each_model, songs, tmp_path):
    make = ["--root_data_dir", str(songs), "--output_dir", str(tmp_path / "pairs"), "--num_proc", "1", "--silence"]
    preprocess_musdb.main(preprocess_musdb.parse_args([*make, *TINY_CLIP]))
    flags = ["--max_samples", "3", "--num_inference_steps", "1", "--dataset_id", str(tmp_path / "pairs")]
    where = ["--model_id", str(each_model), "--base_save_path", str(tmp_path / "out")]
    args = inference_instruct_pix2pix.parse_args(["--seed", *flags, *where])
    assert args.seed == 0
    assert inference_instruct_pix2pix.main(args) == 0
    records = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [list(record["controls"]) for record in records] == [["copy the input", "oracle"]] * 3
    adds = [record["controls"] for record in records if record["settings"]["task"] == "add"]
    assert {controls["copy the input"]["edit performed"] for controls in adds} == {"no"}
    assert {record["seconds"] for record in records} == {0.63}
    folders = sorted(path for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert [folder.name[:11] for folder in folders] == ["sample-000-", "sample-001-", "sample-002-"]
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert {f"{kind}.{end}" for kind in ("original", "painted", "target") for end in ("png", "wav")} < names
    original = load_splits(str(tmp_path / "pairs"))["train"][0]["original_image"]
    again = grey(folders[0] / "original.png")
    assert np.abs(again - np.asarray(original, int)).max() <= 1


def test_a_datasets_samples_have_candidates_whatever_the_batch_and_the_order(tiny_model, songs, tmp_path):
    make = ["--root_data_dir", str(songs), "--output_dir", str(tmp_path / "pairs"), "--num_proc", "1", "--silence"]
    preprocess_musdb.main(preprocess_musdb.parse_args([*make, *TINY_CLIP, "--max_examples", "4"]))
    backwards = load_splits(str(tmp_path / "pairs"))["train"].select([3, 2, 1, 0])
    backwards.to_parquet(tmp_path / "backwards" / "train.parquet")
    tried = []
    for name, flags in {"pairs": ("--batch_size", "3"), "backwards": ("--batch_size", "1")}.items():
        flags += ("--num_candidates", "2", "--retries", "1", "--dataset_id", str(tmp_path / name))
        assert run(tiny_model, tmp_path / f"out-{name}", *flags) == 0
        records = json.loads((tmp_path / f"out-{name}" / "results.json").read_text())
        tried.append({record["prompt"]: record for record in records})
    forwards, backwards = tried
    assert len(forwards) == 4
    for prompt, record in forwards.items():
        again = backwards[prompt]
        assert 2 <= len(record["attempts"]) <= 3
        folders = [tmp_path / name / one["sample"] for name, one in (("out-pairs", record), ("out-backwards", again))]
        assert record["kept attempt"] == again["kept attempt"]
        one, other = (grey(folder / "stem.png") for folder in folders)
        assert np.abs(one - other).max() <= 1


def test_which_of_a_datasets_items_are_painted_over(tiny_model, tmp_path):
    write_pair_folder(tmp_path / "set", count=12)
    options = {"model_id": str(tiny_model), "dataset_id": str(tmp_path / "set"), "max_samples": 3}
    params = model.load_facts(str(tiny_model)).params
    chosen = {
        "first": PaintOptions(**options),
        "random": PaintOptions(**options, sample_order="random"),
        "index": PaintOptions(**options, sample_index=(7, 2)),
    }
    names = {kind: [item.name for item in open_items(one, params)] for kind, one in chosen.items()}
    torch.manual_seed(364)
    drawn = torch.utils.data.random_split(range(12), [3, 9])[0]  # the original project's way
    assert names["random"] == [f"sample-{number:03d}" for number in drawn]
    assert names["first"] == ["sample-000", "sample-001", "sample-002"] != sorted(names["random"])
    assert names["index"] == ["sample-007", "sample-002"]
    with pytest.raises(UserError, match="has no sample 12, only 0 to 11"):
        open_items(dataclasses.replace(chosen["index"], sample_index=(12,)), params)


def test_other_instructions_for_a_datasets_pictures_which_need_no_target(tiny_model, tmp_path):
    write_pair_folder(tmp_path / "set", count=2)
    lines = [json.loads(line) for line in (tmp_path / "set" / "metadata.jsonl").read_text().splitlines()]
    kept = [{"original_image_file_name": line["original_image_file_name"]} for line in lines]
    (tmp_path / "set" / "metadata.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in kept))
    prompts = ["--prompt", "add a vocal", "--prompt", "remove the drums"]
    flags = ["--dataset_id", str(tmp_path / "set"), "--num_inference_steps", "1"]
    assert run(tiny_model, tmp_path / "out", *flags, *prompts) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert sorted((result["settings"]["task"], result["prompt"]) for result in results) == [
        *[("add", "add a vocal")] * 2,
        *[("remove", "remove the drums")] * 2,
    ]
    for result in results:
        assert list(result["controls"]) == ["copy the input"]
        assert result.get("outside, grey levels") is None
        assert not (tmp_path / "out" / result["sample"] / "target.png").exists()
    with pytest.raises(UserError, match="pass --prompt|edit_prompt"):
        run(tiny_model, tmp_path / "other", *flags)


def test_one_picture_in_and_one_out(tiny_model, tmp_path):
    picture = write_picture(tmp_path / "in.png")
    flags = ["--prompt", "add a vocal", "--num_inference_steps", "1"]
    assert run(tiny_model, tmp_path / "out", "--input", str(picture), "--output", str(tmp_path / "b.png"), *flags) == 0
    painted = Image.open(tmp_path / "b.png")
    assert painted.size == Image.open(picture).size
    assert SpectrogramParams.from_exif(painted.getexif()).sample_rate == 44100
    assert (grey(tmp_path / "b.png") != grey(picture)).any()
    with pytest.raises(SystemExit):
        run(
            tiny_model, tmp_path / "bad", "--input", str(picture), "--output", "b.png", "--output_stem", "c.gif", *flags
        )
    folder = write_picture(tmp_path / "many" / "one.png").parent
    write_picture(folder / "two.png", seed=1)
    assert run(tiny_model, tmp_path / "all", "--images", str(folder), *flags) == 0
    results = json.loads((tmp_path / "all" / "results.json").read_text())
    assert sorted(result["sample"][:3] for result in results) == ["one", "two"]
    with pytest.raises(UserError, match="is 100 pixels high"):
        Image.new("L", (64, 100)).save(tmp_path / "low.png")
        run(tiny_model, tmp_path / "low", "--images", str(tmp_path / "low.png"), *flags)


@pytest.mark.parametrize("ending", ["jpg", "gif"])
def test_the_original_projects_pictures_are_painted_over(tiny_model, tmp_path, capsys, ending):
    folder = write_original_folder(tmp_path / "train", ending=ending)
    assert run(tiny_model, tmp_path / "out", "--dataset_id", str(folder), "--max_samples", "1") == 0
    assert capsys.readouterr().out.count({"jpg": "16-bit integers", "gif": "are assumed"}[ending]) == 1
    (sample,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    original = np.asarray(Image.open(folder / "input_image" / f"s0_f0_e0.{ending}").convert("L"), int)
    assert np.abs(grey(sample / "original.png") - original).max() <= 1


def test_a_damaged_picture_is_named(tiny_model, tmp_path):
    folder = write_pair_folder(tmp_path / "set" / "Song")
    picture = folder / "1_in.png"
    content = bytearray(picture.read_bytes())
    content[len(content) // 2] ^= 1
    for bad in (content, content[:2000]):
        picture.write_bytes(bad)
        with pytest.raises(UserError, match=f"^{picture}: can't read this picture"):
            run(tiny_model, tmp_path / "out", "--dataset_id", str(tmp_path / "set"))
    assert not (tmp_path / "out").exists()


def test_half_the_bits_paint_nearly_the_same(tiny_model, tmp_path):
    audio.save_wav(tmp_path / "song.wav", tone(220, 1.0), RATE)
    for precision in ("fp32", "bf16"):
        flags = ("--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal", "--precision", precision)
        assert run(tiny_model, tmp_path / precision, *flags) == 0
    full, half = (grey(tmp_path / precision / "song" / "stem.png") for precision in ("fp32", "bf16"))
    assert 0 < np.abs(full - half).mean() < 4


def test_a_solo_is_put_on_top_and_said_so_before_the_work(tiny_model, tmp_path, capsys):
    audio.save_wav(tmp_path / "song.wav", tone(220, 1.0), RATE)
    prompts = ("--prompt", "put a solo violin on top", "--prompt", "sax solo")
    assert run(tiny_model, tmp_path / "out", "--audio", str(tmp_path / "song.wav"), *prompts) == 0
    for folder in (tmp_path / "out").glob("song-*"):
        assert json.loads((folder / "result.json").read_text())["task"] == "add"
        original, painted, stem = (integers(folder / f"{name}.wav", 16) for name in ("input", "painted", "stem"))
        assert (painted == original + stem).all()
        assert (painted != stem).any()
    told = capsys.readouterr()
    assert told.out.index("task add: 'put a solo violin on top'") < told.out.index("edit performed")
    assert re.search(r"^result +task +edit performed", told.out, re.MULTILINE)
    assert re.findall("warning: '(.*)' is read as 'add': no verb", told.err) == ["sax solo"]
    assert '<span class="task">add</span>' in (tmp_path / "out" / "index.html").read_text()


def test_a_task_that_is_given_wins_without_a_warning(tiny_model, tmp_path, capsys):
    audio.save_wav(tmp_path / "song.wav", tone(220, 1.0), RATE)
    flags = ("--audio", str(tmp_path / "song.wav"), "--prompt", "sax solo", "--task", "extract")
    assert run(tiny_model, tmp_path / "out", *flags) == 0
    painted, stem = (integers(tmp_path / "out" / "song" / f"{name}.wav", 16) for name in ("painted", "stem"))
    assert (painted == stem).all()
    told = capsys.readouterr()
    assert "task extract: 'sax solo'" in told.out
    assert "taken for" not in told.err


def test_seed_takes_a_value_or_none():
    parse = inference_instruct_pix2pix.parse_args
    assert parse(["--seed", "7"]).seed == 7
    assert parse(["--seed", "--max_samples", "10", "--num_inference_steps", "100"]).seed == 0
    assert parse([]).seed is None


def test_bad_input_is_one_clear_line(tiny_model, tmp_path):
    (tmp_path / "text.wav").write_text("not audio")
    audio.save_wav(tmp_path / "short.wav", tone(220, 0.2), RATE)
    soundfile.write(tmp_path / "nan.wav", np.full((2 * RATE, 1), np.nan, np.float32), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "integers.wav", 32768 * tone(220, 2.0).T, RATE, subtype="FLOAT")
    huge = np.where(np.arange(2 * RATE) == 441, 1e30, tone(220, 2.0)[0])
    soundfile.write(tmp_path / "huge.wav", huge, RATE, subtype="FLOAT")
    output = tmp_path / "out"
    for name, reason in {
        "missing.wav": "no such file",
        "text.wav": "not an audio file",
        "short.wav": "0.200 s is too short, less than 0.63 s",
        "nan.wav": "NaN",
        "integers.wav": "up to 10372.2, where full scale is 1: divide them by 32768",
        "huge.wav": r"1 of 88200 samples .* up to 1e\+30 at 0.010 s",
    }.items():
        with pytest.raises(UserError, match=f"{name}.*{reason}"):
            run(tiny_model, output, "--audio", str(tmp_path / name), "--prompt", "add a vocal")
    audio.save_wav(tmp_path / "odd.wav", tone(220, 1.0), 12345)
    for flags, reason in {
        ("--start", "9"): "--start 9.0 is beyond its end",
        ("--start", "0.5", "--end", "0.505"): "less than 0.1 s to paint",
        ("--pan", "0.5"): "--pan needs a stereo song, and this one is mono",
        ("--format", "mp3"): "can't be written, with 1 channel of 12345 Hz",
        ("--format", "flac", "--bits", "32"): "can't be written",
    }.items():
        with pytest.raises(UserError, match=reason):
            run(tiny_model, output, "--audio", str(tmp_path / "odd.wav"), "--prompt", "add a vocal", *flags)
    with pytest.raises(UserError, match=f"{tmp_path}/odd.wav: the result can't be written"):  # no temporary file's name
        run(tiny_model, output, "--audio", str(tmp_path / "odd.wav"), "--prompt", "add a vocal", "--format", "mp3")
    song = write_song(tmp_path / "song", seconds=1.0)
    with pytest.raises(UserError, match="trumpet"):
        run(tiny_model, output, "--audio", str(song), "--without_stem", "trumpet", "--prompt", "play")
    audio.save_wav(tmp_path / "long.wav", tone(220, 6), RATE)
    with pytest.raises(UserError, match="not a model"):
        run(song, output, "--audio", str(tmp_path / "long.wav"), "--prompt", "add a vocal")
    with pytest.raises(UserError, match="two songs are named 'bass'"):
        run(tiny_model, output, "--audio", *[str(song / "bass.wav")] * 2, "--prompt", "add a vocal")
    assert not output.exists()
    (tmp_path / "a file").write_text("mine")
    with pytest.raises(UserError, match="can't make this folder"):
        run(tiny_model, tmp_path / "a file" / "out", "--audio", str(tmp_path / "long.wav"), "--prompt", "add a vocal")


def test_every_result_is_on_the_page_and_in_the_table(tiny_model, tmp_path):
    audio.save_wav(tmp_path / "song.wav", tone(220, 1.0), RATE)
    prompts = ("add a vocal", "add a fox", "add: a fox!", "add a fox")
    flags = [flag for prompt in prompts for flag in ("--prompt", prompt)]
    assert run(tiny_model, tmp_path / "out", "--audio", str(tmp_path / "song.wav"), *flags) == 0
    output = tmp_path / "out"
    names = ["song-add-a-fox", "song-add-a-fox-2", "song-add-a-vocal"]
    assert sorted(path.name for path in output.iterdir()) == ["index.html", "results.json", *names, "sounds.zip"]
    records = json.loads((output / "results.json").read_text())
    assert [record["sample"] for record in records] == names
    assert [record["prompt"] for record in records] == ["add a fox", "add: a fox!", "add a vocal"]
    html = (output / "index.html").read_text()
    for record in records:
        for track in record["tracks"]:
            for file in (track["sound"], track["picture"]):
                assert f'src="{record["sample"]}/{file}"' in html
                assert (output / record["sample"] / file).is_file()
        animation = Image.open(output / record["sample"] / record["comparison"])
        assert (animation.n_frames, animation.width) == (2, 101)


def test_a_run_goes_on_where_it_stopped_and_overwrites_nothing(tiny_model, tmp_path, monkeypatch, capsys):
    for name in ("first", "second"):
        audio.save_wav(tmp_path / f"{name}.wav", tone(220, 1.0), RATE)
    flags = ("--audio", str(tmp_path / "*.wav"), "--prompt", "add a vocal")
    output = tmp_path / "out"
    mixed = paint_song.mix_candidate

    def interrupted(painting, *rest):
        if painting.job.song.name == "second":
            raise KeyboardInterrupt
        return mixed(painting, *rest)

    monkeypatch.setattr(paint_song, "mix_candidate", interrupted)
    with pytest.raises(KeyboardInterrupt) as ending:
        run(tiny_model, output, *flags)
    assert ending.value.__notes__ == ["1 of 2 results finished and kept; the same command goes on"]
    with pytest.raises(KeyboardInterrupt) as ending:
        run(tiny_model, tmp_path / "nothing", "--audio", str(tmp_path / "second.wav"), *flags[2:])
    assert ending.value.__notes__ == ["nothing was finished; the same command goes on"]
    monkeypatch.undo()
    assert sorted(path.name for path in output.iterdir()) == ["first", "index.html", "results.json", "sounds.zip"]
    assert "first/painted.wav" in (output / "index.html").read_text()
    before = (output / "first" / "result.json").stat().st_mtime_ns
    assert "done already" not in capsys.readouterr().out
    assert run(tiny_model, output, *flags) == 0
    told = capsys.readouterr().out
    assert "\n1 of 2 done already, skipped\n" in f"\n{told}"
    assert re.search(
        r"^painted 1 in \d+\.\d s, \d+\.\d s with loading and pages, 1 already existed", told, re.MULTILINE
    )
    assert (output / "first" / "result.json").stat().st_mtime_ns == before
    assert "second/painted.wav" in (output / "index.html").read_text()
    with pytest.raises(UserError, match="first: was painted with other settings .*num_inference_steps 2, now 3"):
        run(tiny_model, output, *flags, "--num_inference_steps", "3")
    assert run(tiny_model, output, *flags, "--num_inference_steps", "3", "--overwrite") == 0
    assert (output / "first" / "result.json").stat().st_mtime_ns > before


def test_without_a_seed_a_run_goes_on_with_its_own(tiny_model, tmp_path):
    audio.save_wav(tmp_path / "song.wav", tone(220, 1.0), RATE)
    command = ["--model_id", str(tiny_model), "--base_save_path", str(tmp_path / "out"), "--num_inference_steps", "1"]
    command += ["--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal"]
    seeds = []
    for flags in ([], [], ["--overwrite"]):
        assert inference_instruct_pix2pix.main(inference_instruct_pix2pix.parse_args([*command, *flags])) == 0
        seeds.append(json.loads((tmp_path / "out" / "song" / "result.json").read_text())["settings"]["seed"])
    assert seeds[0] == seeds[1] != seeds[2]


def test_the_same_call_twice_gives_the_same_bytes(tiny_model, tmp_path, monkeypatch):
    audio.save_wav(tmp_path / "song.wav", tone(220, 1.0), RATE)
    files = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        flags = ("--format", "flac", "--num_candidates", "2")
        assert run(tiny_model, Path("out"), "--audio", str(tmp_path / "song.wav"), "--prompt", "add", *flags) == 0
        files.append({path: path.read_bytes() for path in sorted(Path("out").rglob("*")) if path.is_file()})
    assert len(files[0]) == 11
    assert files[0] == files[1]


def test_what_was_tried_is_told_and_the_best_is_kept(tiny_model, tmp_path):
    audio.save_wav(tmp_path / "song.wav", tone(220, 1.0), RATE)
    flags = ("--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal", "--num_candidates", "3")
    assert run(tiny_model, tmp_path / "three", *flags) == 0
    result = json.loads((tmp_path / "three" / "song" / "result.json").read_text())
    assert [attempt["attempt"] for attempt in result["attempts"]] == [0, 1, 2]
    kept = result["attempts"][result["kept attempt"]]
    assert all(result["measured"][name] == kept[name] for name in kept if name in result["measured"])
    voiced = [(one["edit performed"] == "yes", one["voiced %"]) for one in result["attempts"]]
    assert voiced[result["kept attempt"]] == max(voiced)
    run(tiny_model, tmp_path / "one", *flags, "--num_candidates", "1")
    one = json.loads((tmp_path / "one" / "song" / "result.json").read_text())
    assert one["attempts"] == result["attempts"][:1]


def test_an_edit_that_fails_is_tried_again_and_can_be_an_error(tiny_model, tmp_path):
    audio.save_wav(tmp_path / "song.wav", np.zeros((1, RATE), np.int32), RATE)  # in silence nothing is painted
    flags = ("--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal", "--retries", "3", "--require_edit")
    assert run(tiny_model, tmp_path / "out", *flags) == 1
    result = json.loads((tmp_path / "out" / "song" / "result.json").read_text())
    scales = [(one["guidance_scale"], one["image_guidance_scale"]) for one in result["attempts"]]
    assert scales == [(2.0, 1.2), (2.0, 1.2), (3.0, 1.2), (3.0, 1.1)]
    assert run(tiny_model, tmp_path / "out", *flags) == 1  # it is there already, and still not performed


def count_decodings(song: Path, monkeypatch) -> list[str]:
    """A list that grows with whatever decodes a file: libsndfile's openings and runs of ffmpeg; these go on as ever."""
    decodings: list[str] = []
    open_sound, start = soundfile.SoundFile.__init__, subprocess.Popen.__init__

    def is_song(file) -> bool:
        if isinstance(file, int):
            return os.path.samestat(os.fstat(file), song.stat())
        return isinstance(file, str | bytes | Path) and Path(os.fsdecode(file)).resolve() == song.resolve()

    def opened(self, file, mode="r", *rest, **named):
        decodings.extend(["libsndfile"] * (mode == "r" and is_song(file)))
        open_sound(self, file, mode, *rest, **named)

    def started(self, command, *rest, **named):
        decodes = "-i" in command or any("frame=" in str(part) for part in command)
        read = any(is_song(str(part).removeprefix("file:")) for part in command)
        decodings.extend(["ffmpeg"] * (decodes and read))
        start(self, command, *rest, **named)

    monkeypatch.setattr(soundfile.SoundFile, "__init__", opened)
    monkeypatch.setattr(subprocess.Popen, "__init__", started)
    return decodings


@pytest.mark.parametrize(("ending", "decoder"), [("flac", "libsndfile"), ("ogg", "libsndfile"), ("m4a", "ffmpeg")])
def test_a_compressed_song_is_decoded_once_for_all_candidates_and_retries(
    tiny_model, tmp_path, monkeypatch, ending, decoder
):
    audio.save_wav(tmp_path / "song.wav", np.zeros((1, RATE), np.int32), RATE)  # in silence every attempt fails
    song = tmp_path / f"song.{ending}"
    codec = ["-c:a", "libvorbis"] if ending == "ogg" else []
    command = [ffmpeg.binaries()[0], "-v", "error", "-i", tmp_path / "song.wav", *codec, song]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    decodings = count_decodings(song, monkeypatch)
    flags = ["--audio", str(song), "--prompt", "add a vocal", "--num_candidates", "4", "--retries", "3", "--quiet"]
    assert run(tiny_model, tmp_path / "out", *flags) == 0
    record = json.loads((tmp_path / "out" / "song" / "result.json").read_text())
    assert len(record["attempts"]) == 7
    assert decodings == [decoder]


def test_several_scales_make_a_grid(tiny_model, tmp_path):
    audio.save_wav(tmp_path / "song.wav", tone(220, 1.0), RATE)
    flags = ("--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal", "--guidance_scale", "2.5", "5")
    assert run(tiny_model, tmp_path / "out", *flags, "--image_guidance_scale", "1.5") == 0
    assert 'href="guidance.html"' in (tmp_path / "out" / "index.html").read_text()
    cells = json.loads((tmp_path / "out" / "guidance.json").read_text())
    assert [(cell["guidance_scale"], cell["image_guidance_scale"]) for cell in cells] == [(2.5, 1.5), (5.0, 1.5)]
    for cell in cells:
        assert (tmp_path / "out" / cell["page"]).is_file()
        assert (tmp_path / "out" / cell["picture"]).is_file()


def test_a_search_ends_at_its_page_and_every_row_says_its_guidance(tiny_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    audio.save_wav(tmp_path / "song.wav", tone(220, 1.0), RATE)
    flags = ("--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal", "--guidance_scale", "2.5", "5")
    assert run(tiny_model, tmp_path / "out", *flags, "--image_guidance_scale", "1.5") == 0
    printed, bars = capsys.readouterr()
    assert "guidance of text 2.5, image 1.5" in bars and "guidance of text 5, image 1.5" in bars
    assert not re.search("Loading|Fetching", bars)  # by which diffusers and transformers name theirs
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    assert printed.splitlines()[-1] == f"look and listen: {tmp_path / 'out' / 'guidance.html'}"
    lines = printed.splitlines()
    first = next(
        row for row, line in enumerate(lines) if line.startswith("result  task  text guidance  image guidance")
    )
    rows = [line.split()[:4] for line in lines[first + 1 : first + 3]]
    assert rows == [["song", "add", "2.50", "1.50"], ["song", "add", "5.00", "1.50"]]
    assert printed.count("edit performed: heard, as loud as parts are, and sounds as asked") == 1
    assert "1 sample: a hint only" in " ".join(printed.split())
    assert re.search(r"^best: text guidance (2.5|5), image guidance 1.5 \(", printed, re.MULTILINE)
    html = (tmp_path / "out" / "guidance.html").read_text()
    for cell in json.loads((tmp_path / "out" / "guidance.json").read_text()):
        assert list(cell["sounds"]) == ["painted", "stem"]
        for sound in cell["sounds"].values():
            assert (tmp_path / "out" / sound).is_file()
            assert f'src="{sound}"' in html
    assert "what the columns mean" in html
    assert "0 sample" not in (tmp_path / "out" / "index.html").read_text()


def test_a_search_hears_each_song_once_and_paints_as_without_it(tiny_model, tmp_path, monkeypatch):
    for name in ("first", "second"):
        audio.save_wav(tmp_path / f"{name}.wav", tone(220 if name == "first" else 330, 1.0), RATE)
    encode, encoded = TiledSong.encode, []
    monkeypatch.setattr(TiledSong, "encode", lambda song: encoded.append(song.region) or encode(song))
    flags = ("--audio", str(tmp_path / "*.wav"), "--prompt", "add a vocal")
    assert run(tiny_model, tmp_path / "grid", *flags, "--guidance_scale", "2.5", "5", "--quiet") == 0
    assert len(encoded) == 2
    for scale in ("5", "2.5"):
        assert run(tiny_model, tmp_path / scale, *flags, "--guidance_scale", scale, "--quiet") == 0
        for name in ("first", "second"):
            alone, cell = (tmp_path / scale / name, tmp_path / "grid" / f"text-{scale}" / name)
            assert (alone / "painted.wav").read_bytes() == (cell / "painted.wav").read_bytes()


def test_the_table_and_the_page_say_which_attempt_was_kept(tiny_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    audio.save_wav(tmp_path / "song.wav", tone(220, 1.0), RATE)
    flags = ("--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal", "--num_candidates", "3")
    assert run(tiny_model, tmp_path / "out", *flags) == 0
    kept = json.loads((tmp_path / "out" / "song" / "result.json").read_text())["kept attempt"]
    lines = capsys.readouterr().out.splitlines()
    heading = next(line for line in lines if line.startswith("result  task  kept attempt  attempts  edit performed"))
    assert lines[lines.index(heading) + 1].split()[:4] == ["song", "add", str(kept), "3"]
    html = (tmp_path / "out" / "index.html").read_text()
    assert f"attempt {kept} kept, of 0 to 2" in html
    assert f"<td>{kept}</td><td>kept</td>" in html
    assert html.count("<td>kept</td>") == 1
    assert html.count("<dt>edit performed</dt>") == 1


def test_denoising_steps_are_counted_in_a_dataset(tiny_model, songs, tmp_path, capsys):
    make = ["--root_data_dir", str(songs), "--output_dir", str(tmp_path / "pairs"), "--num_proc", "1", "--silence"]
    preprocess_musdb.main(preprocess_musdb.parse_args([*make, *TINY_CLIP, "--max_examples", "3"]))
    monkeypatched = ("--dataset_id", str(tmp_path / "pairs"), "--batch_size", "2", "--num_candidates", "2")
    assert run(tiny_model, tmp_path / "out", *monkeypatched) == 0
    shown = capsys.readouterr().err
    assert "12/12" in shown  # 3 samples of 2 candidates with 2 steps each
    assert "3 of 3 samples done" in shown
    assert "step" in shown


@pytest.mark.slow
def test_a_song_through_a_pipe(tiny_model, tmp_path):
    audio.save_wav(tmp_path / "song.wav", tone(220, 1.0), RATE)
    command = [sys.executable, "inference_instruct_pix2pix.py", "--model_id", str(tiny_model), "--audio", "-"]
    command += ["--prompt", "add a vocal", "--num_inference_steps", "1", "--seed", "--format", "flac"]
    with (tmp_path / "song.wav").open("rb") as song:
        piped = subprocess.run(command, cwd=ROOT, stdin=song, capture_output=True, check=True)
    (tmp_path / "painted.flac").write_bytes(piped.stdout)
    painted, song = integers(tmp_path / "painted.flac", 16), integers(tmp_path / "song.wav", 16)
    assert painted.shape == song.shape
    assert (painted != song).any()
    assert b"edit performed" in piped.stderr
    assert b"/tmp" not in piped.stderr.split(b"result  ")[-1]
    assert b"\nstdin  " in piped.stderr


def test_any_failure_of_a_song_is_its_own(tiny_model, tmp_path, capsys):
    folder, output = tmp_path / "album [live]", tmp_path / "out"
    folder.mkdir()
    for name, seconds in (
        ("...And Justice for All", 1.0),
        (os.fsdecode(b"caf\xe9"), 1.0),
        ("short", 0.2),
        ("long", 3.0),
    ):
        audio.save_wav(tmp_path / "song.wav", tone(220, seconds), RATE)
        (tmp_path / "song.wav").rename(folder / f"{name}.wav")
    (folder / "broken.wav").write_text("no sound")
    (folder / "._long.wav").write_bytes(bytes.fromhex("00051607000200004d6163204f532058"))
    flags = ("--audio", str(folder), str(tmp_path / "missing.wav"), "--prompt", "add a vocal")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))  # as if nothing more fitted: 2.3 s of mono floats
    try:
        assert run(tiny_model, output, *flags) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    reasons = {
        f"{folder}/broken.wav": "not an audio file",
        f"{folder}/short.wav": "too short",
        f"{tmp_path}/missing.wav": "no such file",
        f"{output}/long": "can't be written .*B are free",
    }
    failures = json.loads((output / "failures.json").read_text())
    assert failures.keys() == reasons.keys()
    told = capsys.readouterr()
    for name, reason in reasons.items():
        assert re.search(reason, failures[name])
        assert f"error: {failures[name]}" in told.err.splitlines()[-len(reasons) :]
    assert "painted 2 in" in told.out
    assert "._long.wav (macOS's notes on another file)" in told.err
    painted = ["_...And Justice for All", "caf%E9"]
    assert sorted(path.name for path in output.iterdir()) == [*painted, "failures.json", "index.html", "results.json"]
    assert [one["sample"] for one in json.loads((output / "results.json").read_text())] == painted
    assert "broken.wav" in (output / "index.html").read_text()
    (folder / "broken.wav").unlink(), (folder / "short.wav").unlink()
    assert run(tiny_model, output, *flags[:2], *flags[3:]) == 0
    assert "painted 1 in" in (told := capsys.readouterr()).out
    assert "2 already existed" in told.out
    assert not (output / "failures.json").exists()


def test_songs_that_all_fail_are_all_named(tiny_model, tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / f"{name}.wav").write_text("no sound")
    with pytest.raises(UserError, match="a.wav: not an audio file"):
        run(tiny_model, tmp_path / "out", "--audio", str(tmp_path), "--prompt", "add")
    assert "b.wav: not an audio file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_names_that_become_the_same_are_told_apart(tiny_model, tmp_path):
    for name in ("Song.wav", "song.flac", "...wav", ". .wav"):
        audio.save_wav(tmp_path / "a.flac", tone(220, 1.0), RATE)
        (tmp_path / "a.flac").rename(tmp_path / name)
    assert run(tiny_model, tmp_path / "outer" / "out", "--audio", str(tmp_path), "--prompt", "add", "--quiet") == 0
    folders = [path.name for path in (tmp_path / "outer" / "out").iterdir() if path.is_dir()]
    assert sorted(folders) == ["Song", "song-2", "untitled", "untitled-2"]
    assert [path.name for path in (tmp_path / "outer").iterdir()] == ["out"]


def test_what_cannot_be_written_is_told_before_the_painting(tiny_model, tmp_path):
    with soundfile.SoundFile(tmp_path / "song.wav", "w", RATE, 2, "PCM_16") as file:
        file.write(np.tile(tone(220, 1.0).T, (1, 2)))
    options = PaintOptions(num_candidates=2)
    song = read_song(tmp_path / "song.wav", None, None, None, tmp_path)
    kept, working = needed_bytes(song, options)
    assert kept == 3 * 2 * 2 * RATE
    assert working == 4 * RATE + kept
    hours = dataclasses.replace(song, samples=7 * 3600 * RATE)
    assert needed_bytes(hours, options)[0] == 7 * 3600 * kept
    with pytest.raises(SystemExit):
        inference_instruct_pix2pix.parse_args(["--audio", "song.wav", "--prompt", os.fsdecode(b"add a caf\xe9")])
    args = inference_instruct_pix2pix.parse_args(["--audio", "song.wav", "--prompt", "add a caf\udcc3\udca9"])
    assert args.prompt == ["add a café"]


@pytest.mark.parametrize(
    ("shell", "said"),
    [
        ("<&-", "error: standard input is closed"),
        (">&-", "error: standard output is closed"),
        ("| head -c 10", "error: standard output: its reader went away; the painted song is kept as "),
    ],
)
@pytest.mark.slow
def test_a_pipe_that_ends_is_one_line(tiny_model, tmp_path, shell, said):
    audio.save_wav(tmp_path / "song.wav", tone(220, 4.0), RATE)
    command = f"{sys.executable} inference_instruct_pix2pix.py --model_id {tiny_model} --audio - --prompt add --quiet"
    command = f"set -o pipefail; {command} --num_inference_steps 1 --seed < {tmp_path}/song.wav {shell}"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = os.environ | {"TMPDIR": str(scratch)}
    run = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith(said) and run.stderr.count("\n") == 1
    assert [soundfile.info(path).frames for path in scratch.rglob("painted.wav")] == [4 * RATE] * ("kept" in said)


def test_quiet_says_nothing(tiny_model, tmp_path, capfd):
    audio.save_wav(tmp_path / "song.wav", tone(220, 1.0), RATE)
    run(tiny_model, tmp_path / "out", "--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal", "--quiet")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("rate", "channels", "prompt", "warning"),
    [
        (8000, 1, "", "the instruction is empty"),
        (192000, 8, "the quick brown fox " * 125, "too long for the model, from"),
    ],
)
def test_odd_songs_and_odd_instructions(tiny_model, tmp_path, capsys, rate, channels, prompt, warning):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (rate, channels))
    soundfile.write(tmp_path / "song.wav", samples, rate, subtype="PCM_24")
    assert run(tiny_model, tmp_path / "out", "--audio", str(tmp_path / "song.wav"), "--prompt", prompt) == 0
    assert warning in capsys.readouterr().err
    original, painted, stem = (
        integers(tmp_path / "out" / "song" / f"{name}.wav", 24) for name in ("input", "painted", "stem")
    )
    assert original.shape == (channels, rate)
    assert (painted - stem == original).all()


def test_a_task_that_the_model_is_poor_at_is_told_in_one_line_and_done(tiny_model, tmp_path, capsys):
    audio.save_wav(tmp_path / "song.wav", tone(220, 0.7), RATE)
    taught = shutil.copytree(tiny_model, tmp_path / "model")
    save_knowledge(taught, Knowledge(10, 2, ("vocals",), ("vocals",), poor_tasks=("extract",)))
    prompts = ("--prompt", "isolate the vocals", "--prompt", "add a vocal")
    assert run(taught, tmp_path / "out", "--audio", str(tmp_path / "song.wav"), *prompts) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    told = "asks this model to extract, at which it is poor: expect less than the music as it is"
    assert warnings == [f"warning: 'isolate the vocals' {told}"]
    assert len(list((tmp_path / "out").glob("*/painted.wav"))) == 2


def test_an_instrument_that_the_model_never_heard_is_told_in_one_line_and_painted(tiny_model, tmp_path, capsys):
    audio.save_wav(tmp_path / "song.wav", tone(220, 0.7), RATE)
    taught = shutil.copytree(tiny_model, tmp_path / "model")
    save_knowledge(taught, Knowledge(10, 2, ("vocals", "drums"), ("drums", "vocals"), ("It can't dance.",)))
    flags = ("--audio", str(tmp_path / "song.wav"), "--prompt", "add a violin and a choir")
    assert run(taught, tmp_path / "out", *flags) == 0
    printed = capsys.readouterr()
    assert re.search("^result .* never heard$", printed.out, re.MULTILINE) and "violin, choir" in printed.out
    told = [line for line in printed.err.splitlines() if "never heard" in line]
    assert told == [
        "warning: 'add a violin and a choir' asks for what the model has never heard (violin, choir): "
        "it was trained on drums, vocals"
    ]
    html = (tmp_path / "out" / "index.html").read_text()
    assert "It can&#x27;t dance." in html
    assert html.count("never heard by the model: violin, choir") == 1
    assert json.loads((tmp_path / "out" / "song" / "result.json").read_text())["never heard"] == ["violin", "choir"]
    assert (tmp_path / "out" / "song" / "painted.wav").is_file()
    assert run(tiny_model, tmp_path / "unsaid", *flags) == 0  # whose folder says nothing of what it knows
    printed = capsys.readouterr()
    assert "never heard" not in printed.out + printed.err + (tmp_path / "unsaid" / "song" / "result.json").read_text()


def test_flags_that_cannot_be_meant_are_refused(capsys):
    for flags, reason in {
        "--audio a.wav": "need a --prompt",
        "--format flac": "--format is for --audio",
        "--guidance_scale nan": "must be finite",
        "--num_inference_steps 1001": "from 1 to 1000",
        "--audio - --prompt p --without_stem vocals": "can't come from stdin",
        "--audio a.wav b.wav --prompt p --name n": "--name names",
        "--audio a.wav --prompt p --name ../n": "not a path",
        "--audio - b.wav --prompt p": "one song from stdin",
        "--guidance_interval 0.5 0.5": "two shares",
        "--guidance_rescale 2": "from 0 to 1",
        "--num_candidates 0": "at least 1",
        "--retries -1": "at least 0",
        "--scheduler magic": "invalid choice",
        "--edits e.csv --name n": "--name is a column",
        "--edits e.csv --audio a.wav b.wav": "takes one --audio at most",
        "--edits e.csv --guidance_scale 3 5": "takes one --guidance_scale at most",
        "--edits e.csv --input a.wav --prompt p --output o.wav": "--output takes one song",
        "--input a.wav --prompt p --output o.txt": "its ending must be one of",
        "--input a.wav --prompt p --output o.wav --format flac": "its ending must be one of",
        "--input a.wav --prompt p --output o.wav --output_stem s.flac": "the same ending",
        "--input a.wav --prompt p --output o.wav --guidance_scale 3 5": "--output takes one guidance",
        "--input a.wav --prompt p --output_stem s.flac": "goes with --output",
        "--zip_mb -1": "at least 0",
    }.items():
        with pytest.raises(SystemExit) as error:
            inference_instruct_pix2pix.parse_args(flags.split())
        assert error.value.code == 2
        assert reason in capsys.readouterr().err


def test_a_text_to_picture_model_is_refused(tiny_base, tmp_path):
    audio.save_wav(tmp_path / "song.wav", tone(220, 6), RATE)
    with pytest.raises(UserError, match="train it first"):
        run(tiny_base, tmp_path / "out", "--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal")


def test_silence_stays_silence_and_is_no_edit(tiny_model, tmp_path):
    audio.save_wav(tmp_path / "song.wav", np.zeros((2, RATE), np.int32), RATE)
    assert run(tiny_model, tmp_path / "out", "--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal") == 0
    assert not integers(tmp_path / "out" / "song" / "stem.wav", 16).any()
    result = json.loads((tmp_path / "out" / "song" / "result.json").read_text())
    assert (result["measured"]["edit performed"], result["measured"]["stem level dB"]) == ("no", None)


@pytest.mark.slow
def test_defaults_without_network_say_what_to_pass(tmp_path):
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "inference_instruct_pix2pix.py", "--base_save_path", str(tmp_path / "out")]
    run = subprocess.run(command, cwd=ROOT, env=offline, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "pass a folder" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "out").exists()


def painted_beside(tiny_model: Path, folder: Path, song: np.ndarray, *flags: str) -> tuple[np.ndarray, dict]:
    """A song's painted stem, float32 (channels, samples), and its record."""
    folder.mkdir()
    soundfile.write(folder / "song.wav", song.T, RATE, subtype="FLOAT")
    flags = ("--audio", str(folder / "song.wav"), "--prompt", "add a vocal", *flags)
    assert run(tiny_model, folder / "out", *flags) == 0
    stem, original, painted = (
        audio.load_audio(folder / "out" / "song" / f"{name}.wav")[0] for name in ("stem", "input", "painted")
    )
    assert np.abs(painted - stem - original).max() < 1e-6
    assert np.abs(original - song).max() < 1e-6
    return stem, json.loads((folder / "out" / "song" / "result.json").read_text())


def test_what_is_painted_is_as_loud_whatever_the_channels_do(tiny_model, tmp_path, capsys):
    signal, time = 0.5 * tone(220, 1.0), np.arange(RATE) / RATE
    stereo = np.tile(signal, (2, 1))
    plain, record = painted_beside(tiny_model, tmp_path / "plain", stereo)
    assert "warning" not in capsys.readouterr().err
    for name, song in {
        "inverted": stereo * [[1], [-1]],
        "nearly": stereo * [[1], [-0.98]],
        "surround": np.tile(signal, (3, 1)) * [[1], [-1], [1]] * [[1], [1], [0.1]],
        "offset": stereo + 0.45,
        "offset of one channel": stereo + [[0], [0.4]],
        "rumble": stereo + 0.4 * np.sin(2 * np.pi * 4 * time),
        "offset and inverted": stereo * [[1], [-1]] + 0.4,
    }.items():
        stem, other = painted_beside(tiny_model, tmp_path / name, song)
        louder = 20 * np.log10(np.linalg.norm(stem[0]) / np.linalg.norm(plain[0]))
        assert abs(louder) < (4.5 if name == "surround" else 1.5), name  # of three channels one is nearly silent
        levels = [one["measured"]["stem level dB"] for one in (record, other)]
        assert levels[1] == pytest.approx(levels[0], abs=1.5), name
        assert other["measured"]["edit performed"] == record["measured"]["edit performed"]
        assert "warning: song: " in capsys.readouterr().err


def test_a_part_is_measured_against_all_channels(tiny_model, tmp_path):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (4, RATE))
    alike, wide, left = np.tile(noise[:1], (4, 1)), noise, np.tile(noise[:1], (2, 1))
    beside = []
    for name, song, *flags in (("alike", alike), ("wide", wide), ("left", left, "--pan", "-1")):
        stem, record = painted_beside(tiny_model, tmp_path / name, song, *flags)
        whole = 10 * np.log10(np.mean(stem**2) / np.mean(song**2))
        beside.append(record["measured"]["stem level dB"] - whole)
    assert np.ptp(beside) < 1  # it counts active frames up to 10 kHz


@pytest.mark.parametrize(("target", "task"), [("stem", "remove"), ("stem", "extract"), ("mix", "remove")])
def test_a_stem_is_taken_from_inverted_channels_as_it_lies_there(tiny_models, tmp_path, target, task):
    stems = []
    for name, sign in {"one": 1, "other": -1}.items():
        song = np.tile(tone(220, 1.0), (2, 1)) * [[1], [sign]]
        soundfile.write(tmp_path / f"{name}.wav", song.T, RATE, subtype="FLOAT")
        flags = ("--audio", str(tmp_path / f"{name}.wav"), "--prompt", "go", "--task", task, "--name", "named")
        assert run(tiny_models[target], tmp_path / name, *flags) == 0
        stems.append(integers(tmp_path / name / "named" / "stem.wav", 24))
        record = json.loads((tmp_path / name / "named" / "result.json").read_text())
        assert record["measured"]["backing samples changed"] == 0
    assert stems[0].any()
    assert np.abs(stems[0] * [[1], [-1]] - stems[1]).max() <= 2
    pictures = [grey(tmp_path / name / "named" / "stem.png") for name in ("one", "other")]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_what_is_nearly_silent_is_told_before(tiny_model, tmp_path, capsys):
    for name, level, said in (("soft", 1e-4, "at -97 dBFS its 16 bits leave hardly any"), ("silent", 0, "is silent")):
        audio.save_wav(tmp_path / f"{name}.wav", level * tone(220, 1.0), RATE)
        flags = ("--audio", str(tmp_path / f"{name}.wav"), "--prompt", "add a vocal")
        assert run(tiny_model, tmp_path / "out", *flags) == 0
        assert f"warning: {name}: {said}" in capsys.readouterr().err
    soundfile.write(tmp_path / "float.wav", 1e-4 * tone(220, 1.0).T, RATE, subtype="FLOAT")
    flags = ("--audio", str(tmp_path / "float.wav"), "--prompt", "add a vocal", "--quiet")
    assert run(tiny_model, tmp_path / "out", *flags) == 0
    assert capsys.readouterr().err == ""
    assert integers(tmp_path / "out" / "float" / "stem.wav", 24).any()


@pytest.mark.parametrize(("rate", "samples"), [(RATE, RATE), (48000, 2 * 48000 + 1), (8000, 20399)])
def test_a_song_shorter_than_a_clip_is_painted_as_long_as_it_is(long_model, tmp_path, rate, samples):
    song = 0.5 * np.sin(2 * np.pi * 220 * np.arange(samples) / rate)
    soundfile.write(tmp_path / "song.wav", np.stack([song, song], axis=1), rate, subtype="PCM_24")
    flags = ("--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal")
    assert run(long_model, tmp_path / "out", *flags) == 0
    folder = tmp_path / "out" / "song"
    original, painted, stem = (integers(folder / f"{name}.wav", 24) for name in ("input", "painted", "stem"))
    assert original.shape == (2, samples)
    assert (painted - stem == original).all()
    tenths = np.abs(stem[0, : samples // 10 * 10]).reshape(10, -1)
    assert tenths.any(axis=1).all()  # up to its end
    assert Image.open(folder / "painted.png").width == pytest.approx(100 * samples / rate + 1, abs=1)
    result = json.loads((folder / "result.json").read_text())
    assert result["seconds"] == samples / rate
    assert result["measured"]["active %"] > 50  # of the song, not of the silence behind it


def test_a_region_of_a_short_song_and_one_that_is_too_short(long_model, tmp_path):
    audio.save_wav(tmp_path / "song.wav", tone(220, 1.2), RATE)
    flags = ("--audio", str(tmp_path / "song.wav"), "--prompt", "add a vocal", "--start", "0.5", "--end", "0.9")
    assert run(long_model, tmp_path / "out", *flags) == 0
    stem = integers(tmp_path / "out" / "song" / "stem.wav", 16)[0]
    assert not np.r_[stem[: RATE // 2], stem[int(0.9 * RATE) :]].any()
    assert stem[int(0.55 * RATE) : int(0.85 * RATE)].any()
    audio.save_wav(tmp_path / "blip.wav", tone(220, 0.999), RATE)
    with pytest.raises(UserError, match="blip.wav: 0.999 s is too short, less than 1 s"):
        run(long_model, tmp_path / "out", "--audio", str(tmp_path / "blip.wav"), "--prompt", "add a vocal")


def test_what_was_read_otherwise_than_it_should_be_is_told_before_painting(tiny_model, tmp_path, capsys, monkeypatch):
    audio.save_wav(tmp_path / "song.wav", tone(220, 2.0), RATE)
    said = ["-metadata", "title=T", "-metadata", "album=", "-metadata", "copyright=C", "-write_id3v1", "1"]
    for name in ("song.mp3", "song.m4a"):
        command = [
            ffmpeg.binaries()[0],
            "-v",
            "error",
            "-i",
            tmp_path / "song.wav",
            *said[: None if "3" in name else 0],
        ]
        subprocess.run([*command, "-b:a", "128k", tmp_path / name], check=True)
    data = bytearray((tmp_path / "song.m4a").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 1500] = b"\x55" * 1500
    (tmp_path / "damaged.m4a").write_bytes(data)
    flags = ["--audio", str(tmp_path / "song.mp3"), str(tmp_path / "damaged.m4a"), "--prompt", "add a vocal"]
    options = inference_instruct_pix2pix.options_of(inference_instruct_pix2pix.parse_args(flags))
    songs = open_inputs(options, model.load_facts(str(tiny_model)).params, tmp_path, {})
    told = capsys.readouterr().err
    assert "damaged.m4a: damaged at " in told
    assert songs[0].tags["title"] == "T"
    assert [song.recording.file.exists() for song in songs] == [True, True]
    monkeypatch.setattr(inputs, "DECODED_SHARE", 0)  # as on a small disk: only one is there decoded at a time
    again = open_inputs(options, model.load_facts(str(tiny_model)).params, tmp_path, {})
    assert [song.recording.file.exists() for song in again] == [False, True]
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(UserError, match="text.txt: not an audio file"):
        run(tiny_model, tmp_path / "out", "--audio", str(tmp_path / "text.txt"), "--prompt", "add a vocal")
