from riffusion.painting import columns
from riffusion.util import tables


def test_every_column_is_explained_once_and_edit_performed_says_what_it_measures():
    rows = [{"result": "song", "edit performed": "yes", "active %": 80.0}]
    lines = columns.legend([rows, [{"answer": "painted", "active %": 80.0}]], width=70).splitlines()
    assert all(len(line) <= 70 for line in lines)
    heads = [line.split(":")[0] for line in lines if not line.startswith(" ")]
    assert heads == ["result", "edit performed", "active %", "answer"]
    meaning = columns.meanings([rows])["edit performed"]  # as pages have it
    assert "sounds like what was asked for: vocals are voiced, with overtones" in meaning
    assert "at least 10 % of the frames, -20 to 18 dB against the input" in meaning
    assert columns.legend([[{"way": "ours"}]]) == ""


def test_whoever_is_asked_twice_for_a_verdict_is_told_once():
    text = columns.meanings([[{"edit performed": "yes"}], [{"performed %": 100.0}]])
    assert "".join(text.values()).count("sounds like what was asked for") == 1
    alone = columns.meanings([[{"performed %": 100.0}]])
    assert alone["performed %"].count("sounds like what was asked for") == 1


def test_the_console_says_each_column_in_one_line():
    for name in columns.BRIEFLY:
        assert name in columns.MEANINGS
        assert columns.legend([[{name: 0}]], width=80).count("\n") == 0, name


def test_the_limit_that_is_told_is_the_limit():
    assert "at most 3 dB" in columns.MEANINGS["limited dB"]
    assert tables.cell_text(columns.LIMITER_DB) == "3.00"
