import argparse

import base_model
import edit_quality
import instructions
import mix_songs
import move_voices
import pytest
from test_benchmarks import BENCHMARKS

import inference_instruct_pix2pix
import preprocess_musdb
import train_instruct_pix2pix
import upload_musdb
from riffusion import __main__ as pictures

SCRIPTS = (preprocess_musdb, upload_musdb, train_instruct_pix2pix, inference_instruct_pix2pix, pictures)
SCRIPTS += (*BENCHMARKS, instructions, base_model, mix_songs, move_voices)


def help_text(script, monkeypatch, capsys, *command: str) -> str:
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        script.parse_args([*command, "--help"])
    return capsys.readouterr().out


def flags_with_values(script, monkeypatch) -> list[tuple[argparse.ArgumentParser, argparse.Action]]:
    """The optional flags of a script, and of its commands, that take a value."""
    parsers = []
    parse = argparse.ArgumentParser.parse_args

    def seen(parser, *rest):
        commands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        parsers.extend([parser, *(one for action in commands for one in action.choices.values())])
        return parse(parser, ["--help"])

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", seen)
    with pytest.raises(SystemExit):
        script.parse_args([])
    monkeypatch.undo()
    return [
        (parser, action)
        for parser in parsers
        for action in parser._actions
        if action.option_strings and action.nargs != 0 and not action.required and action.help != argparse.SUPPRESS
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_every_default_is_in_the_help(script, monkeypatch):
    flags = flags_with_values(script, monkeypatch)
    texts = {action.option_strings[-1]: parser._get_formatter()._expand_help(action) for parser, action in flags}
    assert texts
    assert {name: text for name, text in texts.items() if "default" not in text} == {}
    assert {name: text for name, text in texts.items() if "None" in text or "[" in text or "PosixPath" in text} == {}


def test_a_default_that_is_a_number_a_path_or_a_list_is_shown_as_it_is_typed(monkeypatch, capsys):
    text = " ".join(help_text(train_instruct_pix2pix, monkeypatch, capsys).split())
    for flag, default in (("learning_rate", "0.0001"), ("output_dir", "pix2pix-riff-ckpt"), ("seed", "0")):
        after = text[text.index(f"--{flag} {flag.upper()} ") :]
        assert after[: after.index(")")].endswith(f"(default: {default}")
    assert "seeds to paint each pair with (default: 0 1 2)" in help_text(edit_quality, monkeypatch, capsys)
    text = help_text(inference_instruct_pix2pix, monkeypatch, capsys)
    assert "outputs only the painted stem" in " ".join(text.split())
    assert "leaves it alone" not in text


@pytest.mark.parametrize("text", ["0.4", "61", "nan", "-1"])
def test_a_number_out_of_range_is_a_usage_error_that_says_the_range(text, capsys):
    flags = ["--root_data_dir", "songs", "--output_dir", "pairs", "--frame_len_seconds", text]
    with pytest.raises(SystemExit):
        preprocess_musdb.parse_args(flags)
    assert f"--frame_len_seconds: must be between 0.5 and 60, not {float(text)}" in capsys.readouterr().err
