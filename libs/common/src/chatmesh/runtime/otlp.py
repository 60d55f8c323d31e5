"""Sends spans to an OpenTelemetry collector: OTLP over HTTP, in a thread of its own.

Nothing waits for it. What the collector does not take in time is dropped, and the log
says so once; so are the oldest, unsaid, where more end than can be sent. A collector that
is away costs spans, never messages.
"""

import http.client
import logging
import threading
import urllib.request
from collections import deque
from typing import Final

from opentelemetry.sdk.resources import Resource

from chatmesh.runtime import otlp_bytes
from chatmesh.runtime.tracing import Tracing, Work

WAITING_PIECES_MAX: Final = 8192
"""Pieces of work that wait for the exporter; the oldest go when there are more."""
PIECES_PER_REQUEST_MAX: Final = 2048
"""When so many wait they are sent at once, whatever the time."""
EXPORT_EVERY_S: Final = 5.0
EXPORT_WITHIN_S: Final = 3.0
"""A request to the collector; what it does not take by then is dropped."""
STOP_WITHIN_S: Final = 4.0
"""At the end of the process: for what still waits."""

_PATH: Final = "/v1/traces"
_SCOPE: Final = "chatmesh"
_HEADERS: Final = {"content-type": "application/x-protobuf"}

_log = logging.getLogger(__name__)


class _Sender(threading.Thread):
    """Posts to the collector what has ended, once: spans are not worth a second try.

    The SDK's processor does the same for spans of its own, with a lock and a condition
    at each; here who records does no more than append.
    """

    def __init__(self, url: str, resource: Resource) -> None:
        # A collector that hangs holds up nobody's end.
        super().__init__(name="trace sender", daemon=True)
        self._url = url
        self._about = {
            key: value
            for key, value in resource.attributes.items()
            if isinstance(value, str | int | float | bool)
        }
        self._waiting: deque[Work] = deque(maxlen=WAITING_PIECES_MAX)
        self._wake = threading.Event()
        self._stopping = False
        self._dropping = False

    def record(self, work: Work) -> None:
        self._waiting.append(work)
        if self._is_full() and not self._wake.is_set():
            self._wake.set()

    def run(self) -> None:
        last = False
        while not last:
            self._wake.wait(EXPORT_EVERY_S)
            self._wake.clear()
            # Read before the queue is emptied: what is recorded before the stop is sent.
            last = self._stopping
            self._post(self._taken())
            while self._waiting and (last or self._is_full()):
                self._post(self._taken())

    def stop(self) -> None:
        """Send what waits, within the time there is for it."""
        self._stopping = True
        self._wake.set()
        self.join(STOP_WITHIN_S)
        if self.is_alive():
            _log.warning("the trace collector did not take the last spans in time")

    def _is_full(self) -> bool:
        return len(self._waiting) >= PIECES_PER_REQUEST_MAX

    def _taken(self) -> list[Work]:
        # Nobody else takes, and a full queue replaces: it never gets shorter meanwhile.
        there = min(len(self._waiting), PIECES_PER_REQUEST_MAX)
        return [self._waiting.popleft() for _ in range(there)]

    def _post(self, ended: list[Work]) -> None:
        if not ended:
            return
        try:
            body = otlp_bytes.request(ended, self._about, _SCOPE)
            asked = urllib.request.Request(self._url, data=body, headers=_HEADERS)  # noqa: S310 - the operator's own URL
            with urllib.request.urlopen(asked, timeout=EXPORT_WITHIN_S):  # noqa: S310 - the same
                self._dropping = False
        except (OSError, ValueError, http.client.HTTPException) as error:
            # ValueError: a URL that is none, or text that cannot be written. Whatever it
            # is costs these spans, and not the thread.
            if not self._dropping:
                # Once, not with every batch, until it works again.
                _log.warning("spans are dropped", extra={"cause": str(error)})
            self._dropping = True


def open_tracing(
    endpoint: str,
    *,
    ratio: float,
    service: str,
    instance: str,
    version: str,
    follows: bool = True,
) -> Tracing:
    """Trace to the collector at `endpoint`, such as `http://collector:4318`.

    `service` and `instance` name the process among all others. Never raises for a
    collector that is not there: spans are dropped until it is.
    """
    resource = Resource.create(
        {
            "service.name": f"chatmesh-{service}",
            "service.namespace": "chatmesh",
            "service.instance.id": instance,
            "service.version": version,
        }
    )
    url = endpoint.rstrip("/").removesuffix(_PATH) + _PATH
    sender = _Sender(url, resource)
    sender.start()
    return Tracing(sender.record, ratio=ratio, follows=follows, stop=sender.stop)
