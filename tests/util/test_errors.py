import errno
import os

import pytest

from riffusion.util.errors import UserError, one_line, own_failure


def test_every_failure_is_one_line_that_says_what_and_where():
    failures: dict[str, str] = {}
    for name, error in {
        "a": UserError("a: holds\nno samples"),
        "b": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/b.wav"),
        "c": MemoryError(),
        "d": UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"),
        "e": KeyError("vocals"),
    }.items():
        with own_failure(name, failures):
            raise error
    assert failures["a"] == "a: holds no samples"
    assert failures["b"] == "b: /x/b.wav: No space left on device"
    assert failures["c"].startswith("c: MemoryError (test_errors.py:")
    assert "surrogates not allowed" in failures["d"]
    assert failures["e"].startswith("e: KeyError: 'vocals' (test_errors.py:")
    assert not any("\n" in reason for reason in failures.values())


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_run_is_nobodys_failure(ending):
    failures: dict[str, str] = {}
    with pytest.raises(ending), own_failure("song", failures):
        raise ending
    assert not failures
    assert one_line(OSError("odd")).startswith("OSError: odd")
