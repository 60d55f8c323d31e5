"""Who comes in: one door for sockets and for streams over HTTP."""

import fnmatch
import http
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from chatmesh.gateway.admission import Admission
from chatmesh.gateway.metrics import Metrics
from chatmesh.gateway.settings import GatewaySettings
from chatmesh.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a client is not let in, as it is told."""

    status: http.HTTPStatus
    reason: str
    retry_s: int = 0
    """Seconds after which to try again; 0 does not invite it."""


class Door:
    """Decides by settings, by what is open already, and by how fast clients come."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        connections: Callable[[], int],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._connections = connections
        self._clock = clock
        self._metrics = metrics
        self._admission = Admission(
            settings.connects_per_s, settings.connects_burst, clock.monotonic_s()
        )
        self.draining = False
        """New clients are turned away; those inside stay until they are told to go."""

    def refuses(self, origin: str | None, host: str) -> Refusal | None:
        """Why a handshake is not even looked at: draining, too many, or a strange page."""
        if self.draining:
            return Refusal(http.HTTPStatus.SERVICE_UNAVAILABLE, "shutting down", 1)
        maximum = self._settings.connections_max
        if maximum and self._connections() >= maximum:
            self._metrics.connects.labels("full").inc()
            return Refusal(http.HTTPStatus.SERVICE_UNAVAILABLE, "full", 5)
        if not self.allows_origin(origin, host):
            self._metrics.connects.labels("origin").inc()
            return Refusal(http.HTTPStatus.FORBIDDEN, "origin not allowed")
        wait_s = self._admission.admit(self._clock.monotonic_s())
        if wait_s:
            self._metrics.connects.labels("rate").inc()
            return Refusal(
                http.HTTPStatus.SERVICE_UNAVAILABLE,
                "too many connects",
                int(wait_s) + 1,
            )
        return None

    def allows_origin(self, origin: str | None, host: str) -> bool:
        """Whether pages of this origin may speak to us, who were called as `host`."""
        if origin is None:
            return True  # Not a web page: browsers always say where they come from.
        allowed = self._settings.allowed_origins
        if not allowed:
            try:
                page = urlsplit(origin).netloc.lower()
            except ValueError:
                return False  # No browser says such a thing.
            return page in self._own_pages(host.lower())
        return any(fnmatch.fnmatchcase(origin.lower(), one.lower()) for one in allowed)

    def _own_pages(self, host: str) -> set[str]:
        """Where pages of ours come from: our ports and, in development, any neighbour.

        The page is served from the traffic port, and speaks to the HTTP port when
        WebSockets are blocked. The development page moves between gateways, so each
        hears pages of all. They are compared by the name the browser used, which may be
        localhost or an address.
        """
        name = host.rpartition(":")[0] or host
        pages = {host, f"{name}:{self._settings.port}"}
        if self._settings.development:
            for neighbour in self._settings.neighbours:
                url = urlsplit(neighbour.url)
                pages |= {url.netloc.lower(), f"{name}:{url.port}"}
        return pages
