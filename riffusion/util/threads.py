"""Work side by side on the cores of a CPU.

Torch shares each layer's work among its threads, which wait for each other hundreds of times per image; threads that
have images of their own don't. What is computed is the same to rounding.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Made = TypeVar("Made")

END = object()  # of an iterator


def core_count(device: torch.device) -> int:
    """How many threads may compute at the same time: torch's own on a CPU, one on a GPU."""
    return torch.get_num_threads() if device.type == "cpu" else 1


@contextmanager
def worker_threads(count: int, cores: int) -> Iterator[ThreadPoolExecutor]:
    """So many threads, in which torch computes with an equal share of the cores; work not begun is dropped at the end.

    Gradients are recorded in them, as in any new thread, unless their work says otherwise.
    """
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(max(cores // count, 1),))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # what threads that are yet to come begin with


def side_by_side(work: Callable[[Item], Made], items: Iterable[Item], count: int, cores: int) -> Iterator[Made]:
    """What `work` makes of each item, in their order: `count` at the same time, on so many cores.

    Items are taken as they are needed, in the caller's thread, and so is everything if only one is made at a time.
    """
    if count < 2:
        yield from map(work, items)
        return
    waiting: deque[Future[Made]] = deque()
    with worker_threads(count, cores) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def ahead(items: Iterable[Item], cores: int) -> Iterator[Item]:
    """The same items, each made in another thread while the one before is used; on one core simply the same.

    That thread computes with half of the cores.
    """
    if cores < 2:
        yield from items
        return
    source = iter(items)
    with worker_threads(1, cores // 2) as pool:
        waiting = deque([pool.submit(next, source, END), pool.submit(next, source, END)])
        while (item := waiting.popleft().result()) is not END:
            waiting.append(pool.submit(next, source, END))
            yield item  # type: ignore[misc]  # it isn't END
