import argparse
import os

import pytest

from riffusion.util import flags


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (flags.between(-1, 1), "-1", -1.0),
        (flags.between(1, float("inf"), int), "7", 7),
        (flags.finite, "1e3", 1000.0),
        (flags.seconds, "75.5", 75.5),
        (flags.seconds, "1:15.5", 75.5),
        (flags.seconds, "1:01:15", 3675.0),
        (flags.utf8_text, "add a caf\udcc3\udca9", "add a café"),
        (flags.folder_name, "a song", "a song"),
    ],
)
def test_what_is_typed_becomes_a_value(parse, text, value):
    assert parse(text) == value
    assert type(parse(text)) is type(value)


@pytest.mark.parametrize(
    ("parse", "text", "reason"),
    [
        (flags.between(-1, 1), "1.01", "must be from -1 to 1, not 1.01"),
        (flags.between(-1, 1), "nan", "must be from -1 to 1, not nan"),
        (flags.between(1, float("inf"), int), "0", "must be at least 1, not 0"),
        (flags.finite, "inf", "must be finite"),
        (flags.seconds, "-1", "must be a time"),
        (flags.seconds, "inf", "must be a time"),
        (flags.utf8_text, os.fsdecode(b"caf\xe9"), "isn't UTF-8"),
        (flags.folder_name, "../song", "not a path"),
        (flags.folder_name, ".song", "not a path"),
        (flags.folder_name, "", "not a path"),
    ],
)
def test_what_cannot_be_meant_is_refused(parse, text, reason):
    with pytest.raises(argparse.ArgumentTypeError, match=reason):
        parse(text)


def test_a_word_where_a_number_belongs_is_named_by_its_kind(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=flags.between(1, 3, int))
    with pytest.raises(SystemExit):
        parser.parse_args(["--count", "many"])
    assert "argument --count: invalid int value: 'many'" in capsys.readouterr().err


def test_the_other_bounds_are_kept_too():
    assert flags.at_least(1)("1") == 1
    assert flags.probability("1") == 1.0
    for parse, text, reason in ((flags.at_least(1), "0", "at least 1, not 0"), (flags.probability, "1.1", "not 1.1")):
        with pytest.raises(argparse.ArgumentTypeError, match=reason):
            parse(text)
    with pytest.raises(argparse.ArgumentTypeError, match="no such device here: nowhere"):
        flags.torch_device("nowhere")
