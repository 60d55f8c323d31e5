"""What an operator sees: one trace per message, few series, and every query answered."""

import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import httpx
import jwt
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from chatmesh.cli import examination
from chatmesh.cli.room import Access
from chatmesh.local.instances import Instances
from chatmesh.local.mesh import Mesh
from chatmesh.runtime import trace_names
from chatmesh.runtime.clock import SystemClock
from chatmesh.wire.development import DEVELOPMENT_SECRET
from chatmesh.wire.topics import Topics
from support.eventually import eventually
from support.json_client import JsonClient, json_client
from support.meshes import shared_mesh
from support.otlp_receiver import Collector, otlp_receiver
from support.spans import Told

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

WITHIN_S: Final = 40.0
ROOMS: Final = 50
JOINED: Final = (
    trace_names.SUBSCRIBE,
    trace_names.ASK_HISTORY,
    trace_names.ANSWER_READS,
    trace_names.READ,
    trace_names.SEND_REPORT,
    trace_names.PROCESS_REPORTS,
    trace_names.STORE_PRESENCE,
    trace_names.SEND_EVENTS,
)
LEFT: Final = (
    trace_names.LEAVE,
    trace_names.SEND_REPORT,
    trace_names.PROCESS_REPORTS,
    trace_names.STORE_PRESENCE,
)
"""Within its grace nobody is told."""
ASKED: Final = (
    trace_names.ASK_PRESENCE,
    trace_names.ANSWER_PRESENCE,
    trace_names.LOOK_UP_PRESENCE,
    trace_names.LOOK_UP_PRESENCE,
)
OF_PRESENCE: Final = {*JOINED[4:], *LEFT, *ASKED}
RUN: Final = trace_names.invoke_agent("helper")
WORDS: Final = "words that are nobody's business"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with otlp_receiver() as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def traced(
    instances: Instances,
    migrated_template: str,
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Mesh]:
    """Every service there is, and all of them trace everything."""
    async with shared_mesh(
        instances,
        migrated_template,
        tmp_path_factory.mktemp("logs"),
        others=["presence"],
        agents=1,
        tool_workers=1,
        settings={
            "CHATMESH_TRACE_ENDPOINT": collector.url,
            "CHATMESH_TRACE_RATIO": "1",
        },
    ) as mesh:
        yield mesh


def token(user: str) -> str:
    return jwt.encode({"sub": user}, DEVELOPMENT_SECRET, algorithm="HS256")


def traceparent() -> str:
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


async def send(client: JsonClient, channel: str, number: int, context: str) -> None:
    data = {
        "channel": channel,
        "id": f"{context}-{number}",
        "text": WORDS,
        "traceparent": context,
    }
    answer = await client.ask(rpc={"method": "message.send", "data": data})
    assert "rpc" in answer, answer


def once(
    collector: Collector, trace_id: str, complete: Callable[[list[Told]], bool]
) -> Callable[[], list[Told]]:
    """A probe that gives the trace when it is complete."""

    def probe() -> list[Told]:
        trace = collector.trace(trace_id)
        assert complete(trace), ", ".join(span.name for span in trace)
        return trace

    return probe


def shape(trace: list[Told], root: str) -> dict[str, list[str]]:
    """Names of the spans below each span's name, from a parent's id downwards."""
    names = {span.span_id: span.name for span in trace} | {root: "the client"}
    below: dict[str, list[str]] = {}
    for span in trace:
        below.setdefault(names[span.parent_id], []).append(span.name)
    return {name: sorted(children) for name, children in below.items()}


async def test_one_trace_leads_from_the_frame_to_every_socket(
    traced: Mesh, collector: Collector
) -> None:
    """A message across two gateways: each hop once, the deliveries on both."""
    ours, theirs = traced.gateways
    context = traceparent()
    async with json_client(ours.ws_url) as ada, json_client(theirs.ws_url) as bob:
        for client, user in ((ada, "ada"), (bob, "bob")):
            await client.connect(token(user))
            await client.subscribe("room:traced")
        await send(ada, "room:traced", 1, context)
        await bob.offsets("room:traced", 1)

    _, trace_id, client_span, _ = context.split("-")
    trace = await eventually(
        once(collector, trace_id, lambda spans: len(spans) == 7), within_s=WITHIN_S
    )

    assert shape(trace, client_span) == {
        "the client": [trace_names.SEND],
        trace_names.SEND: [trace_names.SEND_COMMANDS],
        trace_names.SEND_COMMANDS: [trace_names.PROCESS_COMMANDS],
        trace_names.PROCESS_COMMANDS: [trace_names.APPEND, trace_names.SEND_EVENTS],
        trace_names.SEND_EVENTS: [trace_names.DELIVER, trace_names.DELIVER],
    }
    services = {(s.name, s.process["service.name"]) for s in trace}
    assert (trace_names.APPEND, "chatmesh-history") in services
    assert (trace_names.SEND, "chatmesh-gateway") in services
    delivered = [span for span in trace if span.name == trace_names.DELIVER]
    assert len({s.process["service.instance.id"] for s in delivered}) == 2
    assert not any(span.failed for span in trace)
    sent = next(span for span in trace if span.name == trace_names.SEND)
    assert sent.attributes[trace_names.OFFSET] == 1


async def test_a_batch_of_many_traces_keeps_each_whole_and_links_them(
    traced: Mesh, collector: Collector
) -> None:
    """Messages that share a commit have it in each of their traces, linked."""
    gateway = traced.gateways[0]
    contexts = [traceparent() for _ in range(12)]
    async with json_client(gateway.ws_url) as ada:
        await ada.connect(token("ada"))
        await ada.subscribe("room:mixed")
        commands = [
            {
                "id": 100 + number,
                "rpc": {
                    "method": "message.send",
                    "data": {
                        "channel": "room:mixed",
                        "id": f"mixed-{number}",
                        "text": WORDS,
                        "traceparent": context,
                    },
                },
            }
            for number, context in enumerate(contexts)
        ]
        await ada.send(*commands)
        await ada.offsets("room:mixed", len(contexts))

    def complete() -> list[Told]:
        traces = [collector.trace(context.split("-")[1]) for context in contexts]
        for trace in traces:
            assert [s.name for s in trace].count(trace_names.DELIVER) == 1
            assert [s.name for s in trace].count(trace_names.APPEND) == 1
        return [span for trace in traces for span in trace]

    spans = await eventually(complete, within_s=WITHIN_S)
    by_id = {span.span_id: span for span in spans}
    linked = [span for span in spans if span.links]
    assert linked, "twelve messages at once share a batch at some hop"
    for span in linked:
        (first,) = (by_id[link] for link in span.links)
        assert first.name == span.name
        assert first.trace_id != span.trace_id


async def test_a_resume_is_a_trace_with_its_read(
    traced: Mesh, collector: Collector
) -> None:
    """A client that comes back to another gateway: subscribe, ask history, read."""
    ours, theirs = traced.gateways
    channel = "room:resumed"
    async with json_client(ours.ws_url) as ada:
        await ada.connect(token("ada"))
        joined = (await ada.subscribe(channel))["subscribe"]
        await send(ada, channel, 1, traceparent())
        await send(ada, channel, 2, traceparent())
    async with json_client(theirs.ws_url) as ada:
        await ada.connect(token("ada"))
        back = await ada.subscribe(
            channel, recover=True, epoch=joined["epoch"], offset=1
        )
        assert back["subscribe"]["recovered"], back

    def resumed() -> list[Told]:
        found = [
            span
            for span in collector.spans
            if span.name == trace_names.SUBSCRIBE
            and span.attributes.get(trace_names.OUTCOME) == "recovered"
        ]
        assert len(found) == 1, found
        trace = [
            span
            for span in collector.trace(found[0].trace_id)
            if span.name not in OF_PRESENCE
        ]
        assert len(trace) == 4, [one.name for one in trace]
        return trace

    trace = await eventually(resumed, within_s=WITHIN_S)
    assert shape(trace, "") == {
        "the client": [trace_names.SUBSCRIBE],
        trace_names.SUBSCRIBE: [trace_names.ASK_HISTORY],
        trace_names.ASK_HISTORY: [trace_names.ANSWER_READS],
        trace_names.ANSWER_READS: [trace_names.READ],
    }
    assert trace[0].attributes[trace_names.MESSAGE_COUNT] == 1


async def test_a_join_is_part_of_the_subscription_s_trace(
    traced: Mesh, collector: Collector
) -> None:
    """From the subscription through presence to the word that somebody came."""
    channel = f"room:joined-{secrets.token_hex(4)}"
    ours, theirs = traced.gateways
    async with json_client(theirs.ws_url) as bob:
        await bob.connect(token("bob"))
        await bob.subscribe(channel, join_leave=True)
        known = {s.span_id for s in collector.spans}
        async with json_client(ours.ws_url) as ada:
            await ada.connect(token("ada"))
            await ada.subscribe(channel)
            await bob.until(
                lambda said: (
                    said.get("push", {}).get("join", {}).get("info", {}).get("user")
                    == "ada"
                ),
                within_s=WITHIN_S,
            )
            asked = {"method": "presence.members", "data": {"channel": channel}}
            answer = await ada.ask(rpc=asked)
            assert "rpc" in answer, answer

        def complete(root: str) -> Callable[[], list[Told]]:
            names = {
                trace_names.SUBSCRIBE: JOINED,
                trace_names.LEAVE: LEFT,
                trace_names.ASK_PRESENCE: ASKED,
            }[root]

            def probe() -> list[Told]:
                for begun in collector.spans:
                    if begun.name != root or begun.span_id in known:
                        continue
                    trace = collector.trace(begun.trace_id)
                    if sorted(span.name for span in trace) == sorted(names):
                        return trace
                raise AssertionError(f"no whole trace of {root} yet")

            return probe

        joined = await eventually(complete(trace_names.SUBSCRIBE), within_s=WITHIN_S)
        asking = await eventually(complete(trace_names.ASK_PRESENCE), within_s=WITHIN_S)
        left = await eventually(complete(trace_names.LEAVE), within_s=WITHIN_S)

    told = {
        trace_names.SEND_REPORT: [trace_names.PROCESS_REPORTS],
        trace_names.PROCESS_REPORTS: [
            trace_names.SEND_EVENTS,
            trace_names.STORE_PRESENCE,
        ],
    }
    below = shape(joined, "")
    assert trace_names.SEND_REPORT in below[trace_names.SUBSCRIBE]
    assert told.items() <= below.items()
    served = {(one.name, one.process["service.name"]) for one in joined}
    assert (trace_names.STORE_PRESENCE, "chatmesh-presence") in served
    assert shape(asking, "") == {
        "the client": [trace_names.ASK_PRESENCE],
        trace_names.ASK_PRESENCE: [trace_names.ANSWER_PRESENCE],
        trace_names.ANSWER_PRESENCE: [trace_names.LOOK_UP_PRESENCE] * 2,
    }
    assert shape(left, "")[trace_names.LEAVE] == [trace_names.SEND_REPORT]


async def test_a_run_with_a_tool_is_part_of_the_question_s_trace(
    traced: Mesh, collector: Collector
) -> None:
    """From the question through model and tool to the answer on the socket."""
    context = traceparent()
    trace_id = context.split("-")[1]
    async with json_client(traced.gateways[0].ws_url) as ada:
        await ada.connect(token("ada"))
        # A room of its own, also when the test is tried again.
        channel = f"room:asked-{trace_id[:8]}"
        await ada.subscribe(channel)

        async def offered() -> bool:
            asked = {"method": "tools.list", "data": {"channel": channel}}
            listed = (await ada.ask(rpc=asked))["rpc"]["data"]["tools"]
            return "calculator" in {one["name"] for one in listed}

        await eventually(offered, within_s=WITHIN_S)
        data = {
            "channel": channel,
            "id": context,
            "text": "@helper calculate 6*7",
            "traceparent": context,
        }
        await ada.ask(rpc={"method": "message.send", "data": data})
        await ada.until(
            lambda said: said.get("push", {}).get("pub", {}).get("offset") == 2,
            within_s=WITHIN_S,
        )

    def complete(spans: list[Told]) -> bool:
        names = [span.name for span in spans]
        # One for the question and one for the answer.
        served = trace_names.serve_tool("calculator") in names
        return names.count(trace_names.APPEND) == 2 and RUN in names and served

    trace = await eventually(once(collector, trace_id, complete), within_s=WITHIN_S)

    below = shape(trace, context.split("-")[2])
    assert RUN in below[trace_names.SEND_EVENTS]
    tool = trace_names.execute_tool("calculator")
    assert below[RUN].count(tool) == 1
    assert below[tool] == [trace_names.serve_tool("calculator")]
    chats = [span for span in trace if span.name == trace_names.chat("scripted")]
    assert below[RUN].count(trace_names.chat("scripted")) == len(chats) == 2
    ends = [span.attributes[trace_names.AI_FINISH] for span in chats]
    assert ends == [("tool_call",), ("stop",)]
    assert trace_names.PROCESS_COMMANDS in below[RUN], "the answer on its way"
    told = json.dumps([dict(span.attributes) for span in trace], default=str)
    assert "6*7" not in told


async def test_no_span_holds_what_people_say_or_where(
    traced: Mesh, collector: Collector
) -> None:
    """Neither names nor attributes of spans tell a text, a room or a user."""
    async with json_client(traced.gateways[0].ws_url) as ada:
        await ada.connect(token("ada"))
        await ada.subscribe("room:traced")
        await send(ada, "room:traced", 2, traceparent())
    await eventually(lambda: collector.spans, within_s=WITHIN_S)
    told = json.dumps(
        [[span.name, dict(span.attributes)] for span in collector.spans], default=str
    )
    for private in (WORDS, "traced", "resumed", "mixed", "ada"):
        assert private not in told


async def test_a_healthy_mesh_has_nothing_wrong(traced: Mesh) -> None:
    """`chatmesh doctor` sends a message through one gateway and sees it on both."""
    gateways = [
        Access(one.ws_url, token=token("doctor"), direct=True)
        for one in traced.gateways
    ]
    topics = Topics(traced.plan.prefix)
    clock = SystemClock()
    findings = [
        *await examination.examine_broker(traced.plan.amqp_url, topics),
        *await examination.examine_database(traced.plan.database_url, clock),
        *await examination.examine_delivery(gateways, "room:doctor"),
    ]
    for service in traced.services:
        findings += await examination.examine_process(service.http_url, clock)

    assert [finding for finding in findings if not finding.ok] == []
    delivered = [f for f in findings if f.text.startswith("delivered by")]
    assert len(delivered) == len(gateways)


async def series_of(url: str) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    async with httpx.AsyncClient(timeout=WITHIN_S) as http:
        text = (await http.get(f"{url}/metrics")).text
    return {
        (sample.name, frozenset(sample.labels.items()))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_fifty_rooms_make_no_more_series_than_one(traced: Mesh) -> None:
    """No room, user, message or routing key is ever a label."""
    gateway = traced.gateways[0]
    services = traced.services

    async def publish_in(client: JsonClient, rooms: range) -> None:
        for number in rooms:
            channel = f"room:many-{number}"
            answer = await client.subscribe(channel, join_leave=True)
            assert "subscribe" in answer, answer
            await send(client, channel, number, traceparent())

    async with json_client(gateway.ws_url) as ada:
        await ada.connect(token("ada"))
        await publish_in(ada, range(1))
        before = {one.name: await series_of(one.http_url) for one in services}
        await publish_in(ada, range(1, ROOMS))
        after = {one.name: await series_of(one.http_url) for one in services}

    for name, series in after.items():
        new = {sample for sample, _ in series - before[name]}
        # Outcomes that had not come up before may appear once; rooms would be 49.
        assert len(series - before[name]) < 10, (name, sorted(new))
        assert "many" not in str(series)
