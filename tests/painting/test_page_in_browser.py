import json

import numpy as np
import pytest
from browser import CHROMIUM, browser
from conftest import RATE, tone
from PIL import Image
from test_results import record

from riffusion import audio
from riffusion.image import save_png
from riffusion.painting import results
from riffusion.painting.result import RECORD
from riffusion.util import files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here"),
]
SECONDS = 6.0
VOLUMES = "[...document.querySelectorAll('#one audio')].map((player) => player.volume.toFixed(2)).join(' ')"
PLACES = "[...document.querySelectorAll('#one audio')].map((player) => player.currentTime)"
# where the track that is heard is just before and just after a key is pressed
SWITCH = """(() => {
    const heard = () => [...document.querySelectorAll('#one audio')].find((player) => player.volume > 0).currentTime;
    const before = heard();
    document.dispatchEvent(new KeyboardEvent("keydown", {key: "%s"}));
    return [before, heard()];
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of two results, open in a browser; each has three tracks, of which the second is twice as loud."""
    folder = tmp_path_factory.mktemp("results")
    for name in ("first", "second"):
        made = files.make_folder(folder / name)
        content = record() | {"sample": name, "title": name, "seconds": SECONDS, "columns": 601}
        content["tracks"] = [
            {"name": n, "sound": f"{n}.wav", "picture": f"{n}.png"} for n in ("input", "painted", "stem")
        ]
        for number, track in enumerate(content["tracks"]):
            level = 0.2 if number == 1 else 0.1
            audio.save_wav(made / track["sound"], tone(220, SECONDS, level), RATE)
            save_png(Image.fromarray(np.full((64, 601), 200, np.uint8)), made / track["picture"])
        (made / RECORD).write_text(json.dumps(content))
    results.write_overview(folder, archive_bytes=10**7)
    with browser(tmp_path_factory.mktemp("profile")) as page:
        page.folder = folder
        yield page


@pytest.fixture(autouse=True)
def loaded(page):
    page.open(page.folder / "index.html")
    page.run("document.querySelectorAll('.sample').forEach((box, number) => { box.id = ['one', 'two'][number]; }); 0")
    page.until("[...document.querySelectorAll('audio')].every((player) => player.readyState >= 1)")


def is_playing(name: str) -> str:
    return f"[...document.querySelectorAll('#{name} audio')].every((player) => !player.paused)"


def test_tracks_switch_in_place_while_they_play_equally_loud(page):
    assert page.run(VOLUMES) == "1.00 1.00 1.00"
    page.press(" ")
    page.until(f"{is_playing('one')} && document.querySelector('#one audio').currentTime > 0.3")
    assert page.run(VOLUMES) == "0.00 0.50 0.00"  # the painted one is twice as loud as the softest
    for key, volumes in (("1", "1.00 0.00 0.00"), ("3", "0.00 0.00 1.00"), ("2", "0.00 0.50 0.00")):
        before, after = page.run(SWITCH % key)
        assert page.run(VOLUMES) == volumes
        assert after == pytest.approx(before, abs=0.1)
        assert page.run(is_playing("one"))
        page.press("3")
        assert page.run(VOLUMES) == "0.00 0.00 1.00"
        page.press("2")
    page.run("document.getElementById('match').click()")
    assert page.run(VOLUMES) == "0.00 1.00 0.00"
    page.run("document.getElementById('match').click()")
    page.press(" ")
    page.until(f"!({is_playing('one')})")
    stopped = page.run("document.querySelector('#one .clock').textContent")
    assert stopped.endswith(" / 0:06.0") and not stopped.startswith("0:00.0")


def test_arrows_move_in_time_and_between_samples(page):
    for key, place in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0), ("ArrowLeft", 0)):
        page.press(key)
        assert page.run(PLACES) == pytest.approx([place] * 3, abs=0.01)
    page.press(" ")
    page.until(is_playing("one"))
    page.press("ArrowDown")
    assert page.run("document.querySelector('.current').id") == "two"
    page.press(" ")
    page.until(is_playing("two"))
    assert page.run("[...document.querySelectorAll('#one audio')].every((player) => player.paused)")
    page.press("ArrowUp")
    assert page.run("document.querySelector('.current').id") == "one"


def test_pictures_zoom_together_around_the_playhead_with_finer_times(page):
    sizes = "[...document.querySelectorAll('#one .plot')].map((plot) => plot.clientWidth)"
    labels = "[...document.querySelector('#one .times').children].map((label) => label.textContent).join(' ')"
    whole = page.run(sizes)
    assert page.run(labels) == "0 s 1 s 2 s 3 s 4 s 5 s"
    for _ in range(3):
        page.press("ArrowRight")
    page.press("+")
    assert page.run(sizes) == pytest.approx([2 * width for width in whole], abs=1)
    assert page.run(labels).startswith("0 s 0.5 s 1 s")
    views = "[...document.querySelectorAll('#one .graph .scroll')].map((view) => view.scrollLeft)"
    page.until("document.querySelector('#one .graph .scroll').scrollLeft > 0")
    assert page.run(views) == pytest.approx([whole[0] / 2] * 3, abs=3)  # the middle, where the playhead is
    page.run("document.querySelector('#one .graph .scroll').scrollLeft = 7")
    page.until(f"{views}.every((place) => place === 7)")
    for _ in range(9):
        page.press("-")
    assert page.run(sizes) == whole


def test_a_click_on_a_picture_is_a_place_and_a_button_keeps_no_focus(page):
    box = page.run(
        "(({x, y, width}) => [x, y, width])(document.querySelectorAll('#one .plot')[2].getBoundingClientRect())"
    )
    at = {"x": box[0] + box[2] / 2, "y": box[1] + 5, "button": "left", "clickCount": 1}
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, **at)
    assert page.run(PLACES) == pytest.approx([3] * 3, abs=0.1)
    assert page.run("document.querySelector('#one .pick.on').textContent") == "stem"
    box = page.run("(({x, y}) => [x, y])(document.querySelectorAll('#one .pick')[0].getBoundingClientRect())")
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=box[0] + 5, y=box[1] + 5, button="left", clickCount=1)
    page.until(is_playing("one"))
    page.press(" ")
    page.until(f"!({is_playing('one')})")
    assert page.run("document.querySelector('#one .pick.on').textContent") == "input"


def test_every_figure_explains_itself_where_the_mouse_rests(page):
    unexplained = """[...document.querySelectorAll("td")].filter((cell) => !cell.title)
        .map((cell) => cell.closest("table").rows[0].cells[cell.cellIndex].textContent)"""
    assert set(page.run(unexplained)) <= {"answer", "setting", "value"}
    assert page.run("document.querySelectorAll('a[download][href=\"sounds.zip\"]').length") == 1


def test_nothing_is_wider_than_the_page_on_a_phone_and_on_a_wall(page):
    for width in (390, 1280, 2560):
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        page.open(page.folder / "index.html")
        assert page.run("document.documentElement.scrollWidth") == width
    page.call("Emulation.clearDeviceMetricsOverride")


def test_in_the_dark_all_pictures_are_inverted_and_nothing_else_is(page):
    seen = """[...document.querySelectorAll("*")].map((one) => [one.tagName, getComputedStyle(one)])
        .filter(([tag, style]) => tag === "IMG" || style.filter !== "none")
        .map(([tag, style]) => [tag, style.filter, style.borderTopWidth].join(" "))"""
    assert set(page.run(seen)) == {"IMG none 0px"}
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert set(page.run(seen)) == {"IMG invert(1) 0px"}  # a border would be inverted with its picture
    page.call("Emulation.setEmulatedMedia", features=[])


def test_cells_of_a_search_switch_at_the_same_place_and_only_what_was_heard_runs(page, tmp_path):
    for text in (2, 5):
        made = files.make_folder(tmp_path / f"text-{text}" / "song")
        content = record() | {"seconds": SECONDS, "columns": 601}
        content["settings"] |= {"guidance_scale": float(text)}
        content["tracks"] = [{"name": n, "sound": f"{n}.wav", "picture": "p.png"} for n in ("input", "painted", "stem")]
        for track in content["tracks"]:
            audio.save_wav(made / track["sound"], tone(220, SECONDS), RATE)
        save_png(Image.fromarray(np.full((64, 601), 200, np.uint8)), made / "p.png")
        (made / RECORD).write_text(json.dumps(content))
        results.write_overview(made.parent)
    results.write_search(tmp_path)
    page.open(tmp_path / results.SEARCH_PAGE)
    running = "[...document.querySelectorAll('audio')].map((player) => Number(!player.paused)).join('')"
    heard = "[...document.querySelectorAll('audio')].map((player) => Number(player.volume > 0)).join('')"
    page.press(" ")
    page.until("document.querySelector('audio').currentTime > 0.3")
    assert page.run(running) == page.run(heard) == "10000"  # the input, and painted and stem of two cells
    page.press("4")
    page.until(f"{running} === '10010'")
    assert page.run(heard) == "00010"
    page.until("document.querySelectorAll('audio')[3].currentTime > 0.3")
    places = page.run("[...document.querySelectorAll('audio')].map((player) => player.currentTime)")
    assert places[3] == pytest.approx(places[0], abs=0.3)
