from collections import Counter

import datasets
import numpy as np
import pytest
from PIL import Image
from side_by_side import choose_pairs, sheet

from riffusion.util.errors import UserError


@pytest.fixture
def pairs() -> datasets.Dataset:
    """Ten of each stem for a song that has many pairs, one for each of two others, and what removes them."""
    rows = []
    for task in ("add", "remove"):
        for stem in ("bass", "drums", "vocals"):
            for song, number in (("many", 10), ("few", 1), ("one", 1)):
                rows += [
                    {"task": task, "painted_stem": stem, "song": song, "row": len(rows) + n} for n in range(number)
                ]
    return datasets.Dataset.from_list(rows)


def test_stems_and_songs_take_turns(pairs):
    chosen = choose_pairs(pairs, "add", 9, seed=0)
    assert set(chosen["task"]) == {"add"}
    assert Counter(chosen["painted_stem"]) == {"bass": 3, "drums": 3, "vocals": 3}
    assert Counter(chosen["song"]) == {"many": 3, "few": 3, "one": 3}


def test_the_seed_chooses(pairs):
    rows = [choose_pairs(pairs, "add", 9, seed)["row"] for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]


def test_there_may_be_fewer_and_must_be_some(pairs):
    assert len(choose_pairs(pairs, "add", 1000, 0)) == 36
    with pytest.raises(UserError, match="keep"):
        choose_pairs(pairs, "keep", 3, 0)


def test_the_sheet_shows_every_picture_where_it_belongs():
    greys = (0, 80, 120, 200)
    row = {f"column {grey}": Image.new("L", (512, 256), grey) for grey in greys}
    whole = np.asarray(sheet([row, row], ["add a vocal", "add drums " * 50], width=250))
    assert whole.shape[1] == 4 * 250 + 3 * 8
    for place, grey in enumerate(greys):
        column = whole[:, place * 258 + 125]
        assert (column == grey).sum() >= 2 * 120
    assert sheet([row], ["x"]).width == 4 * 512 + 3 * 8
