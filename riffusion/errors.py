"""Bad input: one exception, and how the scripts report it."""

import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

Args = TypeVar("Args")


class UserError(ValueError):
    """Something the user can mend. The message is one line that names the file and the value."""


def run_script(main: Callable[[Args], int], args: Args) -> NoReturn:
    """Leave the process with main's exit code: 2 and one line on stderr for a UserError, 130 for Ctrl-C."""
    try:
        sys.exit(main(args))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: what is finished stays", file=sys.stderr)
        sys.exit(130)
