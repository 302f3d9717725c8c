"""Bad input, and failures in one line."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(ValueError):
    """Something the user can mend. The message is one line that names the file and the value."""

    def __init__(self, message: str):
        # a DataLoader's worker hands its error on as the text of its traceback, which ends in this message
        name = f"{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(message.rpartition(name)[2].strip())


def one_line(error: BaseException) -> str:
    """What went wrong: a UserError's own words, an OSError's file and reason, else its kind, words and place."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    said = " ".join(str(error).split())[:200]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' * bool(said)}{said}{place}"


@contextmanager
def own_failure(of: str, failures: dict[str, str]) -> Iterator[None]:
    """Whatever goes wrong here is the failure of one item, noted by its name in one line; the others go on."""
    try:
        yield
    except Exception as error:  # also a bug: it is told, and the exit code isn't 0
        reason = one_line(error)
        failures[of] = reason if reason.startswith(of) else f"{of}: {reason}"
