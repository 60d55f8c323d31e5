"""Every knob of the gateway, with its unit, its default, and why."""

from typing import Annotated

import pydantic

from chatmesh.gateway.tokens import TokenRules
from chatmesh.runtime.settings import Section, Shared
from chatmesh.wire import limits

Positive = Annotated[float, pydantic.Field(gt=0)]
Count = Annotated[int, pydantic.Field(ge=0)]


class Neighbour(Section):
    """A gateway the development page offers to switch to."""

    name: str
    url: str
    """WebSocket URL as a browser reaches it."""
    http: str = ""
    """URL of its HTTP port as a browser reaches it, for clients whose WebSockets are blocked."""


class GatewaySettings(Shared):
    """Section `gateway`."""

    name: str = ""
    """What this gateway is called, to clients and in logs. Empty: the host's name."""

    host: str = "127.0.0.1"
    """Address of the traffic port. Containers want 0.0.0.0."""

    port: Annotated[int, pydantic.Field(ge=0, le=65535)] = 8001
    """Traffic port: WebSocket and the web page."""

    http_host: str = "127.0.0.1"
    """Address of the HTTP port."""

    http_port: Annotated[int, pydantic.Field(ge=0, le=65535)] = 9001
    """HTTP port: HTTP fallbacks of the client protocol, server API, /livez, /readyz, /metrics."""

    api_keys: tuple[pydantic.SecretStr, ...] = ()
    """Keys of the server API, several while one replaces another. Empty: the API is off."""

    tokens: TokenRules = TokenRules()
    """Which connection and subscription tokens are believed."""

    anonymous: bool = False
    """Let connections without a token in, as nobody."""

    insecure: bool = False
    """Ask for no token and allow everything. For development only, and said loudly."""

    development: bool = False
    """Let the web page log anybody in by name. For development only, and said loudly."""

    neighbours: tuple[Neighbour, ...] = ()
    """Gateways the development page offers to switch to, as JSON in a variable."""

    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may connect, with `*` as wildcard. Empty: the gateway's own host."""

    page: str = ""
    """Folder of the built web page. Empty: the page that came with the package, if any."""

    trace_clients: bool = True
    """A `traceparent` in a client's command decides whether its trace is kept. Off: `trace_ratio` alone decides, and no client can have everything traced."""

    ping_interval_s: Annotated[int, pydantic.Field(ge=0, le=3600)] = 25
    """Seconds between pings to a client; 0 sends none."""

    pong_within_s: Annotated[float, pydantic.Field(ge=0)] = 8.0
    """A client that has not answered a ping by then is gone; 0 does not ask for an answer."""

    connect_within_s: Positive = 10.0
    """A connection that has not sent a valid connect by then is stale."""

    reply_within_s: Positive = 4.0
    """A command's answer comes by then, or its outcome is unknown. SDKs wait 5 s."""

    read_within_s: Positive = 2.0
    """A question to history is asked again after this long."""

    publish_within_s: Positive = 3.0
    """The broker confirms a message by then, or it counts as not sent."""

    frame_bytes_max: Annotated[int, pydantic.Field(ge=1024)] = 4 * (
        limits.COMMAND_BYTES_MAX
    )
    """A client frame over this ends the connection with 1009; it may hold several commands."""

    outbox_bytes_max: Annotated[int, pydantic.Field(ge=64 * 1024)] = 1 * limits.MIB
    """Bytes that may wait for one slow client before it is closed with 3008."""

    channels_max: Annotated[int, pydantic.Field(ge=1)] = (
        limits.CHANNELS_PER_CONNECTION_MAX
    )
    """Channels one connection may be subscribed to."""

    commands_per_s: Annotated[float, pydantic.Field(ge=0)] = 10_000.0
    """Commands one connection may send a second; the rest hear 111, and at twice the rate it is closed with 3013. 0 takes all."""

    commands_burst: Annotated[int, pydantic.Field(ge=1)] = 20_000
    """Commands one connection may send at once after a quiet time."""

    user_commands_per_s: Annotated[float, pydantic.Field(ge=0)] = 0.0
    """Commands one user may send a second to this gateway, by all their connections; the rest hear 111. 0 takes all."""

    user_commands_burst: Annotated[int, pydantic.Field(ge=1)] = 20_000
    """Commands one user may send at once after a quiet time."""

    commands_in_flight_max: Annotated[int, pydantic.Field(ge=1)] = (
        limits.COMMANDS_IN_FLIGHT_PER_CONNECTION_MAX
    )
    """Commands of one connection that may wait for their answers; further ones hear 111."""

    connections_max: Count = 0
    """Connections this process takes; 0 for as many as the machine gives."""

    connects_per_s: Annotated[float, pydantic.Field(ge=0)] = 1000.0
    """Handshakes taken per second; the rest hear 503 with a Retry-After. 0 takes all."""

    connects_burst: Annotated[int, pydantic.Field(ge=1)] = 2000
    """Handshakes taken at once after a quiet time."""

    channel_linger_s: Positive = 30.0
    """A channel is heard this long after its last subscriber here has left."""

    tails_bytes_max: Annotated[int, pydantic.Field(ge=1024)] = 256 * limits.MIB
    """Memory for the newest entries of channels, from which returning clients are answered."""

    drain_window_s: Annotated[float, pydantic.Field(ge=0)] = 30.0
    """On SIGTERM, clients are sent elsewhere spread over this long."""

    drain_settle_s: Annotated[float, pydantic.Field(ge=0)] = 0.0
    """On SIGTERM, keep accepting this long first, until load balancers have noticed."""

    @pydantic.model_validator(mode="after")
    def _periods_fit(self) -> "GatewaySettings":
        if self.ping_interval_s and self.pong_within_s >= self.ping_interval_s:
            raise ValueError("pong_within_s must be shorter than ping_interval_s")
        return self
