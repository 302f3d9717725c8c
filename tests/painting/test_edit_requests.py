import json
from pathlib import Path

import pytest
from conftest import RATE, tone, write_song
from test_inference_instruct_pix2pix import integers, run

from riffusion import audio
from riffusion.painting import edit_requests, paint_song
from riffusion.painting.options import PaintOptions
from riffusion.spectrogram import SpectrogramParams
from riffusion.util.errors import UserError


@pytest.fixture
def model(tiny_models) -> Path:
    return tiny_models["stem"]


def write_rows(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def record(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def stack(tmp_path: Path) -> str:
    """A song with two edits of it, and a third one onto the first; the song is there, too."""
    audio.save_wav(tmp_path / "song.wav", tone(220, 0.7), RATE)
    return write_rows(
        tmp_path / "edits.jsonl",
        {"audio": "song.wav", "prompt": "add a vocal", "end": "0:00.3", "name": "sung", "seed": 5},
        {"audio": "song.wav", "prompt": "add a bass", "guidance_scale": 4},
        {"onto": "sung", "prompt": "add drums", "start": 0.3, "name": "drummed"},
    )


def test_rows_paint_what_the_flags_paint_and_stack(model, tmp_path):
    out = tmp_path / "out"
    assert run(model, out, "--edits", stack(tmp_path)) == 0
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["drummed", "song-add-a-bass", "sung"]
    song = ("--audio", str(tmp_path / "song.wav"))
    alone = ("--prompt", "add a vocal", "--end", "0.3", "--name", "sung", "--seed", "5")
    assert run(model, tmp_path / "alone", *song, *alone) == 0
    for name in ("painted.wav", "stem.wav", "stem.png"):
        assert (out / "sung" / name).read_bytes() == (tmp_path / "alone" / "sung" / name).read_bytes()
    ours, flags = record(out / "sung"), record(tmp_path / "alone" / "sung")
    assert ours == flags | {"title": "song"}
    first, second = (integers(out / name / "painted.wav", 16) for name in ("sung", "drummed"))
    assert (integers(out / "drummed" / "input.wav", 16) == first).all()
    assert (second - integers(out / "drummed" / "stem.wav", 16) == first).all()
    assert (second != first)[:, 3 * RATE // 10 :].any() and not (second != first)[:, : 3 * RATE // 10].any()
    stacked = record(out / "drummed")
    assert (stacked["title"], stacked["settings"]["onto"], stacked["settings"]["seed"]) == ("song", "sung", 0)
    assert record(out / "song-add-a-bass")["settings"]["guidance_scale"] == 4.0


def test_an_interrupted_list_goes_on(model, tmp_path, capsys):
    out, edits = tmp_path / "out", stack(tmp_path)
    rows = Path(edits).read_text().splitlines(keepends=True)
    Path(edits).write_text(rows[0])
    assert run(model, out, "--edits", edits) == 0
    Path(edits).write_text("".join(rows))
    capsys.readouterr()
    assert run(model, out, "--edits", edits) == 0
    assert "painted 2 in" in (told := capsys.readouterr().out) and "1 already existed" in told
    written = {path: path.stat().st_mtime_ns for path in out.glob("*/result.json")}
    assert len(written) == 3
    assert run(model, out, "--edits", edits) == 0
    assert "painted 0 in" in capsys.readouterr().out
    for path in (out / "sung").iterdir():
        path.unlink()
    (out / "sung").rmdir()
    assert run(model, out, "--edits", edits) == 0  # painted again, it is the same that drums were painted into
    now = {path: path.stat().st_mtime_ns for path in out.glob("*/result.json")}
    assert [path.parent.name for path in now if now[path] != written[path]] == ["sung"]
    capsys.readouterr()
    Path(edits).write_text(rows[0].replace("vocal", "voice") + rows[1] + rows[2].replace("drums", "a drum"))
    with pytest.raises(UserError, match="edits.jsonl: 2 rows are bad, so nothing is painted"):
        run(model, out, "--edits", edits)
    told = capsys.readouterr().err
    assert "edits.jsonl:1: " in told and "prompt 'add a vocal', now 'add a voice'" in told
    assert "edits.jsonl:3: " in told and "prompt 'add drums', now 'add a drum'" in told


def test_all_bad_rows_are_told_before_anything_is_painted(model, tmp_path, capsys):
    audio.save_wav(tmp_path / "song.wav", tone(220, 0.7), RATE)
    (tmp_path / "text.wav").write_text("no sound")
    write_song(tmp_path / "songs" / "One", seconds=1.0), write_song(tmp_path / "songs" / "Two", seconds=1.0)
    good = {"audio": "song.wav", "prompt": "add a vocal", "name": "good"}
    bad = {
        "start 9.0 is beyond its end": good | {"start": "0:09", "name": "late"},
        "not an audio file": {"audio": "text.wav", "prompt": "sing"},
        "no such file": {"audio": "missing.wav", "prompt": "sing", "name": "missing"},
        "start 3.0 is beyond its end": {"onto": "good", "prompt": "sing", "start": 3},
        "stands for 2 songs": {"audio": "songs", "prompt": "sing", "without_stem": "vocals"},
        "'x' is no column": good | {"x": 1},
    }
    rows = [good, *bad.values(), {"onto": "missing", "prompt": "sing"}]
    with pytest.raises(UserError, match="edits.jsonl: 6 rows are bad, so nothing is painted"):
        run(model, tmp_path / "out", "--edits", write_rows(tmp_path / "edits.jsonl", *rows))
    told = capsys.readouterr().err.splitlines()
    for line, reason in enumerate(bad, start=2):
        assert sum(f"edits.jsonl:{line}: " in one and reason in one for one in told) == 1
    assert not (tmp_path / "out").exists()


def test_a_row_onto_one_that_fails_fails_too(model, tmp_path, capsys, monkeypatch):
    edits, mixed = stack(tmp_path), paint_song.mix_candidate

    def failing(painting, *rest):
        if painting.job.folder.name == "sung":
            raise OSError(28, "No space left on device")
        return mixed(painting, *rest)

    monkeypatch.setattr(paint_song, "mix_candidate", failing)
    assert run(model, tmp_path / "out", "--edits", edits) == 2
    told = capsys.readouterr().err
    assert "edits.jsonl:1: " in told
    assert f"edits.jsonl:3: was to be painted into {tmp_path}/out/sung, which failed" in told
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == ["song-add-a-bass"]


def test_a_song_of_many_rows_is_read_once(model, tmp_path, monkeypatch):
    opened, open_input = [], edit_requests.open_input
    monkeypatch.setattr(edit_requests, "open_input", lambda path, *rest: opened.append(path) or open_input(path, *rest))
    rows, failures = [{"audio": "song.wav", "prompt": f"add {number}"} for number in range(5)], dict[str, str]()
    audio.save_wav(tmp_path / "song.wav", tone(220, 0.7), RATE)
    options = PaintOptions(edits=Path(write_rows(tmp_path / "edits.jsonl", *rows)))
    params = SpectrogramParams(num_frames=64)
    requests = edit_requests.edit_requests(options, params, tmp_path, failures)
    assert [request.folder.name for request in requests] == [f"song-add-{number}" for number in range(5)]
    assert opened == [tmp_path / "song.wav"] and failures == {}


def test_one_song_in_and_one_file_out(model, tmp_path, capsys):
    audio.save_wav(tmp_path / "song.wav", tone(220, 0.7), RATE)
    flags = ("--input", str(tmp_path / "song.wav"), "--prompt", "add a vocal")
    painted, stem = tmp_path / "new" / "painted.flac", tmp_path / "stem.FLAC"
    assert run(model, tmp_path / "out", *flags, "--output", str(painted), "--output_stem", str(stem)) == 0
    assert f"written: {painted} and {stem}" in capsys.readouterr().out
    assert (integers(painted, 16) - integers(stem, 16) == integers(tmp_path / "song.wav", 16)).all()
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "song.wav", "stem.FLAC"]
    with pytest.raises(UserError, match="painted.flac: already exists; pass --overwrite"):
        run(model, tmp_path / "out", *flags, "--output", str(painted))
    before = painted.read_bytes()
    assert run(model, tmp_path / "out", *flags, "--output", str(painted), "--overwrite", "--seed", "9") == 0
    assert painted.read_bytes() != before
