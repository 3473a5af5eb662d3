"""A quick failure where the Hugging Face hub cannot be reached, instead of half a minute of retries.

The first request to the hub waits at most a few seconds for a connection. If there is none, the hub's
libraries continue as with HF_HUB_OFFLINE=1, from their cache. A failure after a successful connection is
retried as usual.

The module touches a private part of huggingface_hub, read in version 2.4: the factory of its HTTP client.
"""

import functools
import socket
import threading
from contextlib import suppress
from typing import Any
from urllib.request import getproxies

from huggingface_hub import set_client_factory
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils._http import default_client_factory

CONNECT_SECONDS = 3.0
"""Maximum number of seconds to wait for the first connection to the hub."""


def fail_fast_without_hub() -> None:
    """Make the first request to the hub fail within seconds if there is no network."""
    set_client_factory(_client)


def _client() -> Any:
    """Return the hub's own HTTP client, which checks for a connection before a request."""
    client = default_client_factory()
    hooks = client.event_hooks
    client.event_hooks = {**hooks, "request": [_check_connection, *hooks["request"]]}
    return client


def _check_connection(request: Any) -> None:
    """Raise OfflineModeIsEnabled if the request's host cannot be reached. A proxy is not checked."""
    host, port = request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80)
    if not getproxies() and not is_reachable(host, port):
        raise OfflineModeIsEnabled(f"there is no connection to {host} within {CONNECT_SECONDS:g} s")


@functools.cache
def is_reachable(host: str, port: int) -> bool:
    """Return True if a host accepts connections. The answer is kept for the life of the process.

    Args:
        host: Name or address of the host.
        port: Port of the host.
    """
    is_connected = threading.Event()

    def connect() -> None:
        with suppress(OSError):
            socket.create_connection((host, port), CONNECT_SECONDS).close()
            is_connected.set()

    # A thread, because a name server that does not answer has no time limit.
    thread = threading.Thread(target=connect, name="hub", daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    return is_connected.is_set()
