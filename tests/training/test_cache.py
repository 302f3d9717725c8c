import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from riffusion.training.cache import SHARD_ROWS, Cache
from riffusion.util.errors import UserError


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path, Accelerator(cpu=True))


class Doubler:
    """Doubles numbers, and remembers which it was given."""

    def __init__(self):
        self.seen = []

    def __call__(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        self.seen += batch[:, 0].tolist()
        return {"double": 2 * batch}


def numbers(count: int) -> list[torch.Tensor]:
    return [torch.full((3,), float(number)) for number in range(count)]


def test_every_item_finds_its_row_and_equal_keys_are_encoded_once(cache):
    double = Doubler()
    keys = [str(number % 200) for number in range(300)]
    items = [item % 200 for item in numbers(300)]
    rows = cache.rows("test", items, keys, double, None, batch_size=4)
    assert len(rows) == 300
    assert all(torch.equal(rows[place]["double"], 2 * items[place]) for place in range(300))
    assert sorted(double.seen) == list(range(200))


def test_a_run_cut_short_goes_on_from_the_last_whole_shard(cache, tmp_path):
    items, keys = numbers(3 * SHARD_ROWS), [f"{number:04d}" for number in range(3 * SHARD_ROWS)]

    def fails_in_the_third(batch: torch.Tensor) -> dict[str, torch.Tensor]:
        if batch[0, 0] >= 2 * SHARD_ROWS + 8:
            raise KeyboardInterrupt
        return {"double": 2 * batch}

    with pytest.raises(KeyboardInterrupt):
        cache.rows("test", items, keys, fails_in_the_third, None, batch_size=4)
    rest = Doubler()
    rows = cache.rows("test", items, keys, rest, None, batch_size=4)
    assert rest.seen == list(range(2 * SHARD_ROWS, 3 * SHARD_ROWS))
    assert all(torch.equal(rows[place]["double"], 2 * items[place]) for place in range(len(items)))
    again = Doubler()
    cache.rows("test", items, keys, again, None, batch_size=4)
    assert again.seen == []
    assert not list(tmp_path.rglob("*.part"))


def test_other_weights_or_keys_make_another_folder(cache, tmp_path):
    layer = nn.Linear(3, 3)
    for keys in (["a", "b"], ["a", "c"]):
        cache.rows("test", numbers(2), keys, Doubler(), layer, batch_size=2)
    nn.init.zeros_(layer.bias)
    cache.rows("test", numbers(2), ["a", "b"], Doubler(), layer, batch_size=2)
    assert len(list(tmp_path.glob("test-*"))) == 3


def test_a_full_disk_is_one_clear_line_and_leaves_whole_shards(cache, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    items, keys = [torch.zeros(1, 5000)] * 2, ["a", "b"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(UserError, match="shard-00000: can't be written"):
            cache.rows("test", items, keys, Doubler(), None, batch_size=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.rglob("shard-*"))
    assert len(cache.rows("test", items, keys, Doubler(), None, batch_size=2)) == 2


def test_rows_are_half_precision_on_disk(cache, tmp_path):
    cache.rows("test", numbers(2), ["a", "b"], Doubler(), None, batch_size=2)
    assert np.load(next(tmp_path.rglob("double.npy"))).dtype == np.float16


def test_fetching_leaves_no_file_open_and_no_page_mapped(cache, tmp_path):
    count = 3 * SHARD_ROWS + 5  # the last shard is shorter
    rows = cache.rows("test", numbers(count), [f"{n:04d}" for n in range(count)], Doubler(), None, batch_size=4)
    assert [rows[item]["double"][0].item() for item in range(count)] == [2 * item for item in range(count)]
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert not [link for link in Path("/proc/self/fd").iterdir() if str(tmp_path) in os.path.realpath(link)]
