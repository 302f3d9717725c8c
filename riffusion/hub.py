"""The Hugging Face Hub: noticing at once that it can't be reached, and what its clients raise."""

import functools
import socket
import urllib.request
from urllib.parse import urlsplit

import datasets
import huggingface_hub
from httpx2 import HTTPError
from huggingface_hub.errors import EntryNotFoundError

# missing or broken files, refused names, refused requests, failed connections, damaged datasets
HUB_ERRORS = (OSError, ValueError, HTTPError, EntryNotFoundError, datasets.exceptions.DatasetsError)
TIMEOUT_SECONDS = 5


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
        datasets.config.HF_HUB_OFFLINE = True
