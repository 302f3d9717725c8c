"""Places to write to: whether there is room, and failures of writing as messages that name the place."""

import errno
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import soundfile

from riffusion.util.errors import UserError, one_line

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def require_room(place: Path, needed: int, purpose: str) -> None:
    """Raise UserError if a file system has less than `needed` bytes left; `place` needn't be there yet."""
    free = free_bytes(place)
    if free is not None and free < needed:
        raise UserError(f"{place}: not enough space; {purpose} needs about {size(needed)}, and {size(free)} are free")


@contextmanager
def writing(place: Path, needed: int = 0) -> Iterator[None]:
    """Around what writes to a place: a failure becomes a UserError with the place, the reason and the bytes `needed`.

    Sound that can't be read must have become a UserError already.
    """
    try:
        yield
    except soundfile.LibsndfileError as error:
        raise refusal(place, error, needed) from error
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        if error.filename is not None and error.errno not in FULL:
            raise UserError(one_line(error)) from error
        raise refusal(place, error, needed) from error


def refusal(place: Path, error: Exception, needed: int = 0) -> UserError:
    """What to say of a failure to write to a place, with the bytes `needed` as far as that is known."""
    reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    free = free_bytes(place)
    room = [f"{size(free)} are free"] if free is not None else []
    room += [f"about {size(needed)} are needed"] if needed else []
    return UserError(f"{place}: can't be written ({'; '.join([reason.rstrip('.'), *room])})")


def free_bytes(place: Path) -> int | None:
    """What is free where a place is or would be, None if nobody knows."""
    try:
        there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
        return shutil.disk_usage(there).free
    except (OSError, StopIteration):
        return None


def size(count: int) -> str:
    """Bytes as people read them."""
    if count < 1e5:
        return f"{math.ceil(count / 1e3)} kB"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
