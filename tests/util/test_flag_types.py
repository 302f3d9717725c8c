import argparse
import os

import pytest

from riffusion.util import flag_types


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (flag_types.between(-1, 1), "-1", -1.0),
        (flag_types.between(1, float("inf"), int), "7", 7),
        (flag_types.finite, "1e3", 1000.0),
        (flag_types.seconds, "75.5", 75.5),
        (flag_types.seconds, "1:15.5", 75.5),
        (flag_types.seconds, "1:01:15", 3675.0),
        (flag_types.utf8_text, "add a caf\udcc3\udca9", "add a café"),
        (flag_types.folder_name, "a song", "a song"),
    ],
)
def test_what_is_typed_becomes_a_value(parse, text, value):
    assert parse(text) == value
    assert type(parse(text)) is type(value)


@pytest.mark.parametrize(
    ("parse", "text", "reason"),
    [
        (flag_types.between(-1, 1), "1.01", "must be from -1 to 1, not 1.01"),
        (flag_types.between(-1, 1), "nan", "must be from -1 to 1, not nan"),
        (flag_types.between(1, float("inf"), int), "0", "must be at least 1, not 0"),
        (flag_types.finite, "inf", "must be finite"),
        (flag_types.seconds, "-1", "must be a time"),
        (flag_types.seconds, "inf", "must be a time"),
        (flag_types.utf8_text, os.fsdecode(b"caf\xe9"), "isn't UTF-8"),
        (flag_types.folder_name, "../song", "not a path"),
        (flag_types.folder_name, ".song", "not a path"),
        (flag_types.folder_name, "", "not a path"),
    ],
)
def test_what_cannot_be_meant_is_refused(parse, text, reason):
    with pytest.raises(argparse.ArgumentTypeError, match=reason):
        parse(text)


def test_a_word_where_a_number_belongs_is_named_by_its_kind(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=flag_types.between(1, 3, int))
    with pytest.raises(SystemExit):
        parser.parse_args(["--count", "many"])
    assert "argument --count: invalid int value: 'many'" in capsys.readouterr().err
