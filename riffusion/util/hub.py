"""The Hugging Face Hub: noticing at once that it can't be reached, uploading, and what its clients raise."""

import functools
import json
import socket
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
from httpx2 import HTTPError, TransportError
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from riffusion.util.errors import UserError

# missing or broken files, refused names, refused requests, failed connections
HUB_ERRORS = (OSError, ValueError, HTTPError, EntryNotFoundError)
# of another kind: a large file that its storage didn't take, and whatever goes wrong inside hf_xet
UPLOAD_ERRORS = (*HUB_ERRORS, RuntimeError)
TIMEOUT_SECONDS = 5
WAY_ON = {  # after an upload that failed: upload_musdb.py makes datasets, train_instruct_pix2pix.py models
    "dataset": "the same command goes on with it",
    "model": "the same command with --resume_from_checkpoint latest uploads it",
}
RETRY_PAUSES_SECONDS = (1, 4, 16)  # between whole uploads; the client tries most single requests again by itself


@functools.cache
def go_offline_without_network() -> None:
    """Where the Hub can't be reached, use what is cached and fail at once, instead of retrying for half a minute.

    Behind a proxy nothing is tried: only the proxy knows.
    """
    hub = urlsplit(huggingface_hub.constants.ENDPOINT)
    if huggingface_hub.constants.is_offline_mode() or {hub.scheme, "all"} & set(urllib.request.getproxies()):
        return
    try:
        socket.create_connection((hub.hostname, hub.port or {"http": 80}.get(hub.scheme, 443)), TIMEOUT_SECONDS).close()
    except OSError:
        huggingface_hub.constants.HF_HUB_OFFLINE = True
        if "datasets" in sys.modules:  # else it asks huggingface_hub when it is imported
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True


def prepare_upload(repo_id: str, repo_type: str, token: str | None = None) -> None:
    """Make a repository if it is missing, as the first step of an upload that is to come after hours of work.

    Raises UserError if it can't be: the name isn't one, the Hub can't be reached, nobody is logged in, or may not.
    """
    go_offline_without_network()
    try:
        _make_repo(huggingface_hub.HfApi(token=token), repo_id, repo_type, private=False, revision=None)
    except UPLOAD_ERRORS as error:
        raise UserError(f"can't upload to {repo_id!r}: {_reason(_cause(error))} (nothing was uploaded)") from error


def check_name(repo_id: str) -> None:
    """Raise UserError if no repository can have this name."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(_reason(error)) from error


def upload_folder(
    folder: Path,
    repo_id: str,
    repo_type: str,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
    ignore: Sequence[str] = (),
    replace: Sequence[str] = (),
) -> str:
    """Upload a folder to a repository of type "dataset" or "model"; returns its URL.

    The repository and the branch `revision` are made if they are missing. What is already there isn't sent again, so
    the same call goes on with an upload that was cut short. `ignore` and `replace` are patterns of file names: what
    to leave out, and what to delete there unless the folder has it. Without `token` it is huggingface_hub's own.

    Raises UserError if the Hub can't be reached or refuses; the folder isn't touched.
    """
    go_offline_without_network()
    api = huggingface_hub.HfApi(token=token)
    pauses = iter(RETRY_PAUSES_SECONDS)
    while True:
        try:
            repo = _make_repo(api, repo_id, repo_type, private, revision)
            api.upload_folder(
                repo_id=repo.repo_id,
                folder_path=folder,
                repo_type=repo_type,
                revision=revision,
                ignore_patterns=list(ignore),
                delete_patterns=list(replace) or None,
            )
            return f"{repo}/tree/{revision}" if revision else str(repo)
        except UPLOAD_ERRORS as error:
            cause = _cause(error)
            pause = next(pauses, None) if _is_transient(cause) else None
            if pause is None:
                raise UserError(
                    f"can't upload to {repo_id!r}: {_reason(cause)} ({folder} is kept, {WAY_ON[repo_type]})"
                ) from error
            print(f"the upload was interrupted; trying again in {pause} s: {_reason(cause)}", file=sys.stderr)
            time.sleep(pause)


def _make_repo(
    api: huggingface_hub.HfApi, repo_id: str, repo_type: str, private: bool, revision: str | None
) -> huggingface_hub.RepoUrl:
    """A repository and its branch, new or as they are. Raises UserError if it was to be private and isn't."""
    repo = api.create_repo(repo_id, repo_type=repo_type, private=private or None, exist_ok=True)
    if private and not api.repo_info(repo.repo_id, repo_type=repo_type).private:
        raise UserError("it already exists and is public; make it private in its settings, or choose another name")
    if revision:
        api.create_branch(repo.repo_id, branch=revision, repo_type=repo_type, exist_ok=True)
    return repo


def _cause(error: BaseException) -> BaseException:
    """What is behind the client's RuntimeError that only names the file."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error


def _is_transient(error: BaseException) -> bool:
    """Whether the same upload may succeed a little later."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    if isinstance(error, OfflineModeIsEnabled):
        return False
    # a gateway's error page isn't JSON, and hf_xet raises the last three
    return isinstance(error, TransportError | json.JSONDecodeError | ConnectionError | TimeoutError | RuntimeError)


def _reason(error: BaseException) -> str:
    """One line that says what to do."""
    if isinstance(error, OfflineModeIsEnabled | TransportError):
        return "the Hub can't be reached; check the network"
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 401:
        return "nobody is logged in, or the token isn't valid; run `hf auth login`"
    return " ".join(str(error).split())
