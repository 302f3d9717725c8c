import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from riffusion.painting import results
from riffusion.painting.measurements import Measurements
from riffusion.painting.result import RECORD, Result
from riffusion.painting.summary import Summary
from riffusion.util.errors import UserError


def record(**changes: object) -> dict:
    measured = {"edit performed": "yes", "stem level dB": -1.0, "active %": 80.0, "voiced %": 60.0}
    measured |= {"median pitch Hz": 440.0} | changes
    tracks = [{"name": name, "sound": f"{name}.wav", "picture": f"{name}.png"} for name in ("input", "stem")]
    settings = {"seed": 3, "guidance_scale": 2.0, "image_guidance_scale": 1.5, "interval": (0.0, 1.0)}
    rest = {"controls": {}, "attempts": [], "seconds": 5.11, "columns": 512, "min_frequency": 0, "max_frequency": 10000}
    return {
        "sample": "song",
        "title": "song",
        "prompt": "add a vocal",
        "measured": measured,
        "settings": settings,
        "tracks": tracks,
        "comparison": "comparison.webp",
    } | rest


def result(content: dict) -> Result:
    return Result.from_json(content, content["sample"])


def write(folder, content: dict) -> None:
    with results.working_folder(folder) as working:
        for track in content["tracks"]:
            (working / track["sound"]).write_text("sound")
            (working / track["picture"]).write_text("picture")
        (working / RECORD).write_text(json.dumps(content))


def test_a_result_is_finished_refused_or_not_there(tmp_path):
    settings = record()["settings"]
    folder = tmp_path / "song"
    assert not results.is_finished(folder, settings, overwrite=False)
    write(folder, record())
    assert results.is_finished(folder, settings, overwrite=False)
    assert not results.is_finished(folder, settings, overwrite=True)
    with pytest.raises(UserError, match="seed 3, now 4"):
        results.is_finished(folder, settings | {"seed": 4}, overwrite=False)
    (tmp_path / "other").mkdir()
    assert not results.is_finished(tmp_path / "other", settings, overwrite=False)
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not a finished result"):
        results.is_finished(tmp_path / "other", settings, overwrite=False)
    assert results.earlier_seed([tmp_path / "other", folder]) == 3
    assert results.earlier_seed([tmp_path / "other"]) is None


def test_a_folder_is_there_whole_or_as_it_was(tmp_path):
    folder = tmp_path / "song"
    with pytest.raises(KeyboardInterrupt), results.working_folder(folder) as working:
        (working / "painted.wav").write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    write(folder, record())
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(KeyboardInterrupt), results.working_folder(folder):
        raise KeyboardInterrupt
    assert (folder / RECORD).exists()
    other = record()
    for track in other["tracks"]:
        track["sound"] = track["sound"].replace("wav", "flac")
    write(folder, other)
    names = {path.name for path in folder.iterdir()}
    assert names == {"input.flac", "input.png", "stem.flac", "stem.png", "notes.txt", RECORD}


def test_two_runs_do_not_paint_the_same(tmp_path):
    with results.working_folder(tmp_path / "song") as working:
        (working / "painted.wav").write_text("half")
        with pytest.raises(UserError, match="another run"), results.working_folder(tmp_path / "song"):
            pass
        assert (working / "painted.wav").exists()
    assert [path.name for path in (tmp_path / "song").iterdir()] == ["painted.wav"]
    assert [path.name for path in tmp_path.iterdir()] == ["song"]


def test_what_is_not_ours_is_neither_shown_nor_replaced(tmp_path):
    write(tmp_path / "song", record())
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / RECORD).write_text('{"passed": true}')
    (tmp_path / f"{results.WORKING}other").mkdir()
    (tmp_path / f"{results.WORKING}other" / RECORD).write_text(json.dumps(record()))
    (tmp_path / "song").rename(tmp_path / "renamed")
    assert [one.name for one in results.load_results(tmp_path)] == ["renamed"]
    results.check_pages(tmp_path)
    results.write_overview(tmp_path)
    results.check_pages(tmp_path)
    (tmp_path / results.PAGE).write_text("<p>my own page</p>")
    with pytest.raises(UserError, match="was not written by this tool"):
        results.check_pages(tmp_path)
    (tmp_path / results.PAGE).unlink()
    with pytest.raises(UserError, match="was not written by this tool"):
        results.check_pages(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        results.is_finished(tmp_path / "file", {}, overwrite=True)


def test_another_name_of_the_same_model_is_the_same(tmp_path):
    settings = {"model_id": "checkpoints/small", "model_sha256": "ab"}
    write(tmp_path / "song", record() | {"settings": settings})
    assert results.is_finished(tmp_path / "song", settings | {"model_id": "./checkpoints/small"}, overwrite=False)
    with pytest.raises(UserError, match="model_sha256 'ab', now 'cd'"):
        results.is_finished(tmp_path / "song", settings | {"model_sha256": "cd"}, overwrite=False)


def test_what_a_killed_run_left_is_cleared_by_the_next(tmp_path):
    (tmp_path / f"{results.WORKING}song").mkdir()
    (tmp_path / f"{results.WORKING}song" / "old.wav").write_text("half")
    write(tmp_path / "song", record())
    assert [path.name for path in tmp_path.iterdir()] == ["song"]
    assert not (tmp_path / "song" / "old.wav").exists()


def test_the_table_over_all_counts_verdicts_and_takes_medians():
    verdicts = ("yes", "no", "yes", "-")
    rows = [
        record(**{"edit performed": verdict, "active %": 10.0 * n})["measured"] for n, verdict in enumerate(verdicts)
    ]
    rows[0]["stem level dB"] = None  # what JSON makes of minus infinity
    row = Summary.of("painted", [Measurements.from_row(row) for row in rows]).row()
    assert row["performed %"] == pytest.approx(200 / 3)
    assert (row["samples"], row["active %"], row["level dB"]) == (4, 15.0, -1.0)


def test_the_page_of_a_search_leads_to_each_of_its_pages(tmp_path):
    for text in (5.0, 10.0):
        for image in (1.5, 2.0):
            content = record()
            content["settings"] |= {"guidance_scale": text, "image_guidance_scale": image}
            write(tmp_path / f"text-{text:g}-image-{image:g}" / "song", content)
    for folder in tmp_path.iterdir():
        results.write_overview(folder)
    results.write_search(tmp_path)
    results.write_overview(tmp_path)
    assert f'href="{results.SEARCH_PAGE}"' in (tmp_path / results.PAGE).read_text()
    html = (tmp_path / results.SEARCH_PAGE).read_text()
    cells = json.loads((tmp_path / results.SEARCH).read_text())
    assert len(cells) == 4
    for cell in cells:
        assert (tmp_path / cell["page"]).is_file()
        assert (tmp_path / cell["picture"]).is_file()
        assert cell["page"] in html
    assert html.index("text-5-image-2/") < html.index("text-10-image-1.5/")


def test_a_result_folder_may_lie_on_another_disk(tmp_path):
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    elsewhere = Path(tempfile.mkdtemp(dir=memory))
    try:
        (tmp_path / "song").symlink_to(elsewhere)
        (tmp_path / "other").symlink_to(elsewhere / "not yet there")
        for name in ("song", "song", "other"):
            write(tmp_path / name, record())
            assert results.is_finished(tmp_path / name, record()["settings"], overwrite=False)
        assert not list(elsewhere.rglob(f"{results.WORKING}*"))
        assert (tmp_path / "song").is_symlink()
    finally:
        shutil.rmtree(elsewhere)


def test_results_whose_names_begin_with_dots_or_are_not_utf8_are_on_the_page(tmp_path):
    write(tmp_path / "...And Justice for All", record())
    write(tmp_path / os.fsdecode(b"caf\xe9"), record())
    results.save_failures(tmp_path, {"broken.wav": "broken.wav: holds <no> samples"})
    results.write_overview(tmp_path)
    html = (tmp_path / results.PAGE).read_text()
    assert 'src="...And%20Justice%20for%20All/stem.wav"' in html
    assert 'src="caf%E9/stem.wav"' in html
    assert "broken.wav: holds &lt;no&gt; samples" in html
    assert json.loads((tmp_path / results.FAILURES).read_text()) == {"broken.wav": "broken.wav: holds <no> samples"}
    results.save_failures(tmp_path, {})
    results.write_overview(tmp_path)
    assert "broken.wav" not in (tmp_path / results.PAGE).read_text()
