"""Bad input."""


class UserError(ValueError):
    """Something the user can mend. The message is one line that names the file and the value."""

    def __init__(self, message: str):
        # a DataLoader's worker hands its error on as the text of its traceback, which ends in this message
        name = f"{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(message.rpartition(name)[2].strip())
