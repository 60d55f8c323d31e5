"""Composition root: which adapter stands behind which port, and in which order it lives."""

import importlib.metadata
import logging
import random
import secrets
import socket
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import fastapi
import jwt
import msgspec
from jwt.warnings import InsecureKeyLengthWarning
from prometheus_client import CollectorRegistry

from chatmesh.bus.brokers import split_urls
from chatmesh.gateway.adapters.http_api import application
from chatmesh.gateway.adapters.http_streams import Fallbacks
from chatmesh.gateway.adapters.key_sets import JwksKeySet
from chatmesh.gateway.adapters.rabbit_bus import RabbitBus
from chatmesh.gateway.adapters.server_api import Keys, ServerApi
from chatmesh.gateway.adapters.server_api_calls import Calls
from chatmesh.gateway.adapters.web_page import WebPage
from chatmesh.gateway.adapters.websocket_server import SocketServer
from chatmesh.gateway.control import Control
from chatmesh.gateway.gateway import BROKER_CHECK, CANARY_CHECK, Gateway
from chatmesh.gateway.metrics import Metrics
from chatmesh.gateway.pace import Paces, Rate
from chatmesh.gateway.policy import Policy
from chatmesh.gateway.settings import GatewaySettings
from chatmesh.gateway.terms import Terms
from chatmesh.gateway.tokens import SECRET_BYTES_ADVISED, TokenVerifier
from chatmesh.runtime.clock import Clock, SystemClock
from chatmesh.runtime.health import Health
from chatmesh.runtime.http import HttpServer
from chatmesh.runtime.process_metrics import add_process_metrics
from chatmesh.runtime.service import Stopping
from chatmesh.runtime.startup import CannotStart
from chatmesh.runtime.tasks import Tasks
from chatmesh.runtime.tracing import Tracing, to_collector
from chatmesh.wire.calls import Role
from chatmesh.wire.topics import Topics

log = logging.getLogger(__name__)

STOP_WITHIN_S: Final = 5.0
DEVELOPMENT_TOKEN_S: Final = 24 * 3600
_RANDOM_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class _Parts:
    """Everything a gateway consists of, before any of it has begun."""

    name: str
    clock: Clock
    health: Health
    key_set: JwksKeySet | None
    bus: RabbitBus
    gateway: Gateway
    control: Control
    sockets: SocketServer
    operations: HttpServer
    tracing: Tracing


async def serve(settings: GatewaySettings, stopping: Stopping) -> int:
    """Run a gateway until it is asked to stop; gives the process's exit code."""
    failures: list[str] = []

    def task_failed(task: str, _: BaseException) -> None:
        failures.append(task)
        stopping.request(f"task {task} failed")

    tasks = Tasks(on_failure=task_failed)
    _warn_of_conveniences(settings)
    parts = _assemble(settings, tasks)
    await parts.sockets.start()
    try:
        await parts.operations.start()
        tasks.spawn(parts.bus.run(), name="broker link")
        tasks.spawn(parts.gateway.tend(), name="clockwork")
        tasks.spawn(parts.control.run(), name="heartbeat")
        ports = {"port": parts.sockets.port, "http": parts.operations.port}
        log.info("gateway up", extra={"gateway": parts.name, **ports})
        await stopping.wait()
        parts.health.drain()
        if not failures:
            await _drain(parts, settings)
    finally:
        await parts.sockets.stop()
        await tasks.stop(STOP_WITHIN_S)
        if parts.key_set is not None:
            await parts.key_set.close()
        await parts.operations.stop()
        parts.tracing.shut_down()
    log.info("gateway down", extra={"reason": stopping.reason})
    return 1 if failures else 0


async def _drain(parts: _Parts, settings: GatewaySettings) -> None:
    """Let load balancers notice, turn newcomers away, send everybody elsewhere."""
    await parts.clock.sleep(settings.drain_settle_s)
    parts.sockets.refuse_new()
    await parts.control.leave()
    await parts.gateway.drain(settings.drain_window_s)


def _assemble(settings: GatewaySettings, tasks: Tasks) -> _Parts:
    clock, chance = SystemClock(), random.Random(secrets.randbits(64))  # noqa: S311 - jitter, not secrets
    name = settings.name or socket.gethostname()
    # A gateway that starts again is another one: replies to the old are not for it.
    origin = f"{name}.{secrets.token_hex(_RANDOM_BYTES)}"
    metrics, health = Metrics(CollectorRegistry()), Health(BROKER_CHECK, CANARY_CHECK)
    add_process_metrics(metrics.registry, health, service="gateway", version=version())
    tracing = _tracing(settings, name)
    key_set = JwksKeySet(settings.tokens, clock) if settings.tokens.jwks_url else None
    bus = _bus(settings, origin, clock, chance)
    terms = _terms(settings, name, origin)
    gateway = Gateway(
        bus,
        TokenVerifier(settings.tokens, key_set),
        key_set,
        settings=settings,
        terms=terms,
        clock=clock,
        chance=chance,
        tasks=tasks,
        metrics=metrics,
        health=health,
        drop_line=bus.drop_line,
        origin=origin,
        new_client_id=lambda: str(uuid.uuid4()),
        tracing=tracing,
    )
    control = Control(
        bus,
        gateway,
        terms.policy,
        node=origin,
        name=name,
        version=version(),
        clock=clock,
        tasks=tasks,
    )
    _join(bus, gateway, control)
    page = WebPage(settings, gateway=name, make_token=_token_maker(settings, clock))
    sockets = SocketServer(
        gateway, page, settings=settings, clock=clock, metrics=metrics
    )
    fallbacks = Fallbacks(
        gateway, control, sockets.door, settings=settings, clock=clock, metrics=metrics
    )
    calls = Calls(gateway, control, bus, terms.policy, new_id=terms.new_id)
    routers = [fallbacks.router(), _server_api(settings, calls, metrics)]
    operations = _operations(settings, health, metrics, routers)
    return _Parts(
        name,
        clock,
        health,
        key_set,
        bus,
        gateway,
        control,
        sockets,
        operations,
        tracing,
    )


def _tracing(settings: GatewaySettings, name: str) -> Tracing:
    return to_collector(
        settings.trace_endpoint,
        ratio=settings.trace_ratio,
        follows_clients=settings.trace_clients,
        service="gateway",
        instance=name,
        version=version(),
    )


def _bus(
    settings: GatewaySettings, origin: str, clock: Clock, chance: random.Random
) -> RabbitBus:
    return RabbitBus(
        split_urls(settings.amqp_url),
        name=origin,
        names=Topics(settings.prefix),
        publish_within_s=settings.publish_within_s,
        read_within_s=settings.read_within_s,
        clock=clock,
        chance=chance,
    )


def _operations(
    settings: GatewaySettings,
    health: Health,
    metrics: Metrics,
    routers: list[fastapi.APIRouter],
) -> HttpServer:
    return HttpServer(
        application(health, metrics.registry, version=version(), routers=routers),
        settings.http_host,
        settings.http_port,
    )


def _join(bus: RabbitBus, gateway: Gateway, control: Control) -> None:
    """The gateway hears what the broker brings; the other gateways are heard apart."""

    async def link_up() -> None:
        await gateway.link_up()
        await control.link_up()

    gateway.hear_control = control.hear
    bus.attach(receive=gateway.receive, up=link_up, down=gateway.link_down)


def _server_api(
    settings: GatewaySettings, calls: Calls, metrics: Metrics
) -> fastapi.APIRouter:
    keys = Keys([key.get_secret_value() for key in settings.api_keys])
    return ServerApi(calls, keys, metrics).router()


def version() -> str:
    return importlib.metadata.version("chatmesh-gateway")


def _terms(settings: GatewaySettings, name: str, node: str) -> Terms:
    return Terms(
        Policy(
            settings.namespaces,
            anonymous=settings.anonymous,
            insecure=settings.insecure,
            # With the development login anybody is anybody, so everybody may do anything.
            role=Role.OWNER if settings.development else Role.MEMBER,
        ),
        version=f"chatmesh {version()}",
        connect_data=msgspec.Raw(msgspec.json.encode({"gateway": name})),
        ping_interval_s=settings.ping_interval_s,
        pong=settings.pong_within_s > 0,
        node=node,
        channels_max=settings.channels_max,
        in_flight_max=settings.commands_in_flight_max,
        paces=Paces(
            Rate(settings.commands_per_s, settings.commands_burst),
            Rate(settings.user_commands_per_s, settings.user_commands_burst),
        ),
        new_id=lambda: secrets.token_hex(2 * _RANDOM_BYTES),
    )


def _token_maker(
    settings: GatewaySettings, clock: Clock
) -> Callable[[str], str] | None:
    """Signs tokens for the development login; None where there is no such login."""
    if not settings.development:
        return None
    if not settings.tokens.hmac_secrets:
        raise CannotStart("the development login needs a secret in tokens.hmac_secrets")
    secret = settings.tokens.hmac_secrets[0].get_secret_value()

    def make(user: str) -> str:
        now_s = clock.unix_ms() // 1000
        claims = {"sub": user, "iat": now_s, "exp": now_s + DEVELOPMENT_TOKEN_S}
        return jwt.encode(claims, secret, algorithm="HS256")

    return make


def _warn_of_conveniences(settings: GatewaySettings) -> None:
    if settings.insecure:
        log.warning("INSECURE: no token is asked for and everything is allowed")
    if settings.development:
        log.warning("DEVELOPMENT LOGIN: anybody who reaches this port is anybody")
    for secret in settings.tokens.hmac_secrets:
        if len(secret.get_secret_value().encode()) < SECRET_BYTES_ADVISED:
            log.warning(
                "SHORT SECRET: tokens can be guessed",
                extra={"bytes_advised": SECRET_BYTES_ADVISED},
            )
            # Said once here; the token library would say it again with every token.
            warnings.simplefilter("ignore", InsecureKeyLengthWarning)
    page = Path(settings.page) if settings.page else None
    if page is not None and not page.is_dir():
        log.warning("no web page", extra={"folder": str(page)})
