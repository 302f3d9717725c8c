"""Bad input."""


class UserError(ValueError):
    """Something the user can mend. The message is one line that names the file and the value."""
