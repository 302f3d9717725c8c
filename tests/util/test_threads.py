import threading
import time

import pytest
import torch

from riffusion.util.threads import ahead, core_count, side_by_side


def test_a_gpu_does_its_own_sharing():
    assert core_count(torch.device("cpu")) == torch.get_num_threads()
    assert core_count(torch.device("cuda")) == 1


@pytest.mark.parametrize("count", [1, 2, 4])
def test_what_is_made_side_by_side_comes_in_order(count):
    def work(number: int) -> int:
        time.sleep(0.01 * (number % 3))
        return number**2

    assert list(side_by_side(work, range(20), count, cores=4)) == [number**2 for number in range(20)]


def test_threads_share_the_cores_and_take_few_items_beforehand():
    before, taken = torch.get_num_threads(), []

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    made = side_by_side(lambda _: (torch.get_num_threads(), threading.get_ident()), items(), 2, cores=6)
    threads, worker = next(made)
    assert threads == 3
    assert worker != threading.get_ident()
    assert len(taken) == 3
    made.close()
    assert torch.get_num_threads() == before
    fresh = []
    thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert fresh == [before]


def test_the_next_item_is_made_while_one_is_used():
    made = []

    def items():
        for number in range(4):
            made.append((number, threading.get_ident()))
            yield number

    stream = ahead(items(), cores=2)
    assert next(stream) == 0
    for _ in range(200):
        if len(made) == 3:
            break
        time.sleep(0.01)
    assert len(made) == 3
    assert list(stream) == [1, 2, 3]
    assert {thread for _, thread in made} != {threading.get_ident()}
    made.clear()
    assert list(ahead(items(), cores=1)) == [0, 1, 2, 3]
    assert {thread for _, thread in made} == {threading.get_ident()}


def failing():
    yield 1
    raise ValueError("broken")


def test_what_goes_wrong_in_a_thread_goes_wrong_here():
    for stream in (ahead(failing(), cores=2), side_by_side(lambda item: item, failing(), 2, cores=2)):
        with pytest.raises(ValueError, match="broken"):
            list(stream)
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda item: 1 // item, [1, 0, 1], 2, cores=2))
