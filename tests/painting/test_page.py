import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from conftest import RATE
from test_results import record, result

from riffusion.diffusion.knowledge import Knowledge
from riffusion.painting import page, search_page, summary
from riffusion.spectrogram import SpectrogramConverter


def html_of(content: dict) -> str:
    one = result(content)
    return page.results_page([one], summary.summary_rows([one]))


class Tables(HTMLParser):
    """The texts of all tables of a page, cell by cell, and of its verdicts."""

    def __init__(self, html: str):
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.verdicts: list[str] = []
        self.place = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        kinds = (dict(attributes).get("class") or "").split()
        self.place = "cell" if tag in ("td", "th") else "verdict" if "verdict" in kinds else ""

    def handle_data(self, data):
        if self.place == "cell":
            self.tables[-1][-1][-1] += data
        if self.place == "verdict":
            self.verdicts.append(data)
        self.place = ""


def test_tables_hold_what_was_measured_cell_by_cell():
    content = record() | {"kept attempt": 1, "controls": {"oracle": record(**{"active %": 90.0})["measured"]}}
    scales = {"guidance_scale": 2.0, "image_guidance_scale": 1.5}
    tries = [record(**{"edit performed": word})["measured"] for word in ("no", "yes")]
    content["attempts"] = [{"attempt": number} | scales | measured for number, measured in enumerate(tries)]
    page_tables = Tables(html_of(content))
    summary_table, measured, attempts, settings = page_tables.tables
    names = ["edit performed", "stem level dB", "active %", "voiced %", "median pitch Hz"]
    assert measured == [
        ["answer", *names],
        ["oracle", "yes", "-1.00", "90.00", "60.00", "440.00"],
        ["painted", "yes", "-1.00", "80.00", "60.00", "440.00"],
    ]
    assert attempts == [
        ["attempt", "kept", "guidance_scale", "image_guidance_scale", *names],
        ["0", "", "2.00", "1.50", "no", "-1.00", "80.00", "60.00", "440.00"],
        ["1", "kept", "2.00", "1.50", "yes", "-1.00", "80.00", "60.00", "440.00"],
    ]
    assert summary_table == [
        ["answer", "samples", "edit performed", "level dB", "active %", "voiced %", "pitch Hz"],
        ["oracle", "1", "yes", "-1.00", "90.00", "60.00", "440.00"],
        ["painted", "1", "yes", "-1.00", "80.00", "60.00", "440.00"],
    ]
    assert settings[:2] == [["setting", "value"], ["seed", "3"]]
    assert page_tables.verdicts == ["edit performed"]


@pytest.mark.parametrize(("word", "badge"), [("yes", ["edit performed"]), ("no", ["edit not performed"]), ("-", [])])
def test_a_verdict_is_a_badge_unless_nobody_can_tell(word, badge):
    assert Tables(html_of(record(**{"edit performed": word}))).verdicts == badge


def test_a_search_shows_each_guidance_where_its_row_and_column_cross():
    cells = []
    for text, image in ((5.0, 1.5), (10.0, 1.5), (10.0, 2.0)):
        content = record(**{"active %": text + image})
        content["settings"] |= {"guidance_scale": text, "image_guidance_scale": image}
        cells.append(summary.Cell.of(f"text-{text:g}-image-{image:g}", "index.html", [result(content)]))
    html = search_page.grid_page(cells)
    (grid,) = Tables(html).tables
    assert html.count("<audio") == 1 + 3  # the input, and a stem in each cell
    assert [row[0] for row in grid] == ["", "text 5", "text 10"]
    assert grid[0][1:] == ["image 1.5", "image 2"]
    rows = html.split("<tr>")[2:]
    assert [re.findall(r'href="([^"]*)"', row) for row in rows] == [
        ["text-5-image-1.5/index.html"],
        ["text-10-image-1.5/index.html", "text-10-image-2/index.html"],
    ]
    rows = [re.sub("<[^>]*>", "", row) for row in rows]
    assert ["active % 6.50" in rows[0], "active % 11.50" in rows[1], "active % 12.00" in rows[1]] == [True] * 3


def test_what_people_write_is_shown_and_never_run():
    content = record() | {"prompt": "<script>alert(1)</script>", "title": 'a "b" & <i>c</i>', "sample": 'a"b #1 50%?'}
    html = html_of(content)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "a &quot;b&quot; &amp; &lt;i&gt;c&lt;/i&gt;" in html
    assert 'src="a%22b%20%231%2050%25%3F/input.wav"' in html


def test_the_page_needs_nothing_but_the_folder():
    content = record()
    html = html_of(content)
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert {"song/input.wav", "song/stem.png", "song/comparison.webp"} <= set(sources)
    assert not [source for source in sources if source.startswith(("http", "/", "data"))]
    assert "@import" not in html
    assert "url(" not in html


def test_the_task_is_a_badge_beside_the_instruction():
    content = record() | {"task": "extract"}
    assert '<span class="task">extract</span> add a vocal</p>' in html_of(content)
    earlier = record()
    earlier["settings"] |= {"task": "remove"}
    assert '<span class="task">remove</span> add a vocal</p>' in html_of(earlier)


def test_why_an_edit_failed_stands_at_it_and_what_to_do_once():
    failed = record(**{"edit performed": "no", "voiced %": 8.0, "overtones %": 60.0}) | {"task": "add"}
    html = page.results_page([result(failed), result(record()), result(failed)], [])
    assert html.count('<p class="warning">not performed: voiced % 8.00 (needs at least 15)</p>') == 2
    assert html.count("--retries 3") == html.count("--num_candidates 4") == 1
    assert "not performed" not in html_of(record()) and "--retries" not in html_of(record())


def test_what_the_model_never_heard_stands_at_the_result_that_asks_for_it():
    unheard = record() | {"sample": "other", "never heard": ["violin", "choir"]}
    html = page.results_page([result(record()), result(unheard)], [])
    first, other = html.split('<section class="sample"')[1:]
    assert "never heard" not in first
    assert '<p class="warning">never heard by the model: violin, choir; no verdict' in other


@pytest.mark.parametrize("pitch", [220, 1760, 7040])
def test_a_pitch_is_where_the_axis_says(pitch):
    time = np.arange(RATE) / RATE
    tone = torch.from_numpy(np.sin(2 * np.pi * pitch * time).astype(np.float32))[None]
    mel = SpectrogramConverter().mel_amplitudes_from_waveform(tone)[0, :, 50].numpy()
    row = 511 - int(mel.argmax())
    places = {label: place for place, label in page.pitch_ticks(0, 10000)}
    assert 512 * places[f"{pitch} Hz"] / 100 == pytest.approx(row + 0.5, abs=1.5)


@pytest.mark.parametrize(
    ("seconds", "first", "last"), [(5.11, "0 s", "4 s"), (30, "0 s", "25 s"), (180, "0:00", "2:30")]
)
def test_a_time_is_where_the_axis_says(seconds, first, last):
    ticks = page.time_ticks(seconds)
    assert ticks[0] == (0, first)
    assert 5 <= len(ticks) <= page.MOST_TICKS + 1
    assert ticks[-1][1] == last
    places = [place for place, _ in ticks]
    assert np.diff(places) == pytest.approx(places[1])
    assert max(places) < 100


def test_a_silent_answer_has_no_figure_and_no_verdict_is_no_badge():
    content = record(**{"edit performed": "-", "stem level dB": None})
    html = html_of(content)
    assert "<p>1 sample</p>" in html
    assert "<td>-</td>" in html
    assert 'class="verdict' not in html


def test_a_page_says_what_its_verdict_measures_and_each_column_once():
    content = record()
    html = html_of(content)
    assert "1 of 1 edits performed (by level, activity and sound)" in html
    assert html.count("<dt>edit performed</dt>") == html.count("<dt>active %</dt>") == 1
    two = page.results_page([result(content)] * 2, summary.summary_rows([result(content)] * 2))
    assert two.count("<dt>performed %</dt>") == two.count("<dt>active %</dt>") == 1
    assert "sounds like what was asked for" in html


def test_results_of_a_song_stand_together_and_what_is_painted_into_another_follows_it():
    def one(name: str, title: str, **settings: str):
        content = record() | {"sample": name, "title": title}
        content["settings"] |= settings
        return result(content)

    results = [
        one("a drum", "Song", onto="the voice"),
        one("alone", "Other"),
        one("bass", "Song", without_stem="bass", input_sha256="of the rest"),
        one("more", "Song", onto="a drum"),
        one("the voice", "Song", input_sha256="of all"),
        dataclasses.replace(one("twin", "Song"), seconds=6.0),
        one("widow", "Gone", onto="what was deleted"),
    ]
    songs = [[shown.name for shown in song] for song in page.by_song(results)]
    assert songs == [["alone"], ["bass", "the voice", "a drum", "more"], ["twin"], ["widow"]]
    html = page.results_page(results, [])
    assert '<h2>Song <span class="soft">4 edits</span></h2>' in html
    assert html.index("<h2>the voice") < html.index("<h2>a drum") < html.index("into the result of the voice")


def test_figures_explain_themselves_and_tracks_are_as_loud_as_the_softest():
    one = result(record())
    levels = {"song/input.wav": -20.0, "song/stem.wav": -26.0}
    html = page.results_page([one], summary.summary_rows([one]), page.Surroundings(levels=levels))
    assert re.findall(r'src="([^"]*)" data-gain="([^"]*)"', html) == [
        ("song/input.wav", "0.501"),
        ("song/stem.wav", "1.000"),
    ]
    headings = re.findall(r"<th([^>]*)>([^<]*)<", html)
    assert {name for title, name in headings if not title} == {"setting", "value"}
    assert re.search(r'<td title="seed of the noise: [^"]*">seed</td>', html)


@pytest.mark.parametrize(
    ("around", "said"),
    [
        (page.Surroundings(archive="sounds.zip", sound_bytes=2_500_000), 'href="sounds.zip" download'),
        (page.Surroundings(sound_bytes=250_000_001), "250.0 MB of sounds; one file of all: <code>--zip_mb 251</code>"),
    ],
)
def test_all_sounds_are_one_file_or_the_page_says_how(around, said):
    one = result(record())
    assert said in page.results_page([one], [], around)


def test_the_page_says_what_the_model_was_trained_on_and_cannot_do():
    one = result(record())
    knowledge = Knowledge(12, 3, ("other", "vocals"), ("guitar", "vocals"), ("It has <no> words.",))
    html = page.results_page([one], [], page.Surroundings(models={"a/model": knowledge}))
    assert "<b>a/model</b> was trained on 12 pairs of 3 songs:" in html
    assert "instruments that instructions named: guitar, vocals" in html
    assert "<li>It has &lt;no&gt; words.</li>" in html
    nothing_said = page.results_page([one], [], page.Surroundings())
    assert 'class="model"' not in nothing_said


def test_settings_are_shown_to_the_last_digit():
    content = record()
    content["settings"]["guidance_rescale"] = 0.1234
    assert "<td>0.1234</td>" in html_of(content)
