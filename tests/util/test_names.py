import os
import unicodedata

import pytest

from riffusion.util import names


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("song", "song"),
        ("a/b\\c\n", "a-b-c-"),
        ("...And Justice for All", "_...And Justice for All"),
        (".", "untitled"),
        ("..", "untitled"),
        ("", "untitled"),
        (" \u3000", "untitled"),
        ("\u200b\u202e\ufeff", "untitled"),  # nothing that is seen
        ("R.E.M.", "R.E.M"),  # Windows drops a dot at the end, too
        ("nul", "_nul"),
        ("AUX.live", "_AUX.live"),
        ("Why? <live>: 3|4", "Why- -live-- 3-4"),
        (os.fsdecode(b"caf\xe9"), "caf%E9"),
        ("\ud800x", "-x"),
        (unicodedata.normalize("NFD", "Beyoncé"), "Beyoncé"),
        ("100% #1 [live] 🎸", "100% #1 [live] 🎸"),
        ("-dash", "-dash"),
    ],
)
def test_a_folders_name_is_seen_and_taken_by_every_file_system(tmp_path, name, folder):
    assert names.safe_name(name) == folder
    assert names.safe_name(folder) == folder
    (tmp_path / folder).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_long_names_are_cut_between_letters():
    assert names.safe_name("ü" * 300) == "ü" * 100
    assert len(names.safe_name("🎸" * 300).encode()) == 200
    assert names.safe_name("x" * 199 + ". rest") == "x" * 199


def test_names_that_become_the_same_are_told_apart():
    given = ["Song", "song", unicodedata.normalize("NFD", "é"), "é", "song-2", "other"]
    assert names.distinct(given) == ["Song", "song-2", given[2], "é-2", "song-2-2", "other"]


def test_text_is_readable_whatever_bytes_a_name_has():
    assert names.readable(os.fsdecode(b"Bj\xf6rk")) == "Bj%F6rk"
    assert names.readable("\udcc3\udca9") == "é"  # UTF-8 under a locale that isn't
    assert names.utf8("\udcc3\udca9") == "é"
    assert names.utf8(os.fsdecode(b"caf\xe9")) is None
    assert names.key(" VOCALS ") == names.key("vocals")
    assert names.key(unicodedata.normalize("NFD", "Ä")) == names.key("ä")
