"""`make observe`: Prometheus beside a running mesh, and a page with our dashboards' curves.

Without words it watches what `make run` has started on this machine. With
`--picture FILE` it starts a mesh of its own, lets people talk in it, and draws real
curves of the message journey into FILE.
"""

import argparse
import asyncio
import functools
import http.server
import json
import shutil
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import measures
from bench.mesh import measured_mesh

from chatmesh.local import places, ports, prometheus
from chatmesh.local.mesh import (
    AGENT_SHIFT,
    HISTORY_SHIFT,
    HTTP_SHIFT,
    OTHER_SHIFTS,
    TOOLS_SHIFT,
    Mesh,
)
from chatmesh.local.process import Command, Process
from chatmesh.local.rabbit import PortPlan
from chatmesh.local.trouble import Trouble

ROOT: Final = Path(__file__).resolve().parent.parent
ALERTS: Final = sorted((ROOT / "deploy" / "alerts").glob("*.yaml"))
DASHBOARDS: Final = ROOT / "deploy" / "dashboards"
ORDER: Final = (
    "journey",
    "gateways",
    "history",
    "broker",
    "presence",
    "agents",
    "slos",
)
REPLICAS_MAX: Final = 9
"""Of one service: so many ports are looked at."""
EVERY_S: Final = 2
STARTED_WITHIN_S: Final = 30.0
ANSWERS_WITHIN_S: Final = 10.0

PICTURED: Final = "journey"
PICTURE_ROUNDS: Final = ((10, 20), (60, 60), (250, 20), (20, 20))
"""Messages a second, and for how many seconds."""


def local_targets(base_port: int) -> dict[str, list[str]]:
    """What `make run` starts, as far as it listens."""
    broker = PortPlan.read(places.places(ROOT).state / "rabbitmq" / "ports.json")
    replicated = {
        "gateway": HTTP_SHIFT,
        "history": HISTORY_SHIFT,
        "agent": AGENT_SHIFT,
        "tools": TOOLS_SHIFT,
    }
    wanted = {
        **{
            job: [base_port + shift + number for number in range(REPLICAS_MAX)]
            for job, shift in replicated.items()
        },
        "presence": [base_port + OTHER_SHIFTS["presence"]],
        prometheus.BROKER_JOB: [n.metrics for n in broker.nodes] if broker else [],
    }
    found = {
        job: [f"127.0.0.1:{port}" for port in those if not ports.is_free(port)]
        for job, those in wanted.items()
    }
    if not found["gateway"]:
        raise Trouble(f"no mesh here on port {base_port}; start one with `make run`")
    return found


@contextmanager
def running(
    targets: Mapping[str, Sequence[str]], folder: Path, port: int
) -> Generator[str]:
    """Prometheus, scraping; gives its address."""
    program = prometheus.program("prometheus", say=print)
    config = folder / "prometheus.yaml"
    config.write_text(
        yaml.safe_dump(prometheus.configuration(targets, rules=ALERTS, every_s=EVERY_S))
    )
    words = prometheus.words(program, config=config, data=folder / "data", port=port)
    command = Command(name="prometheus", words=words, directory=folder)
    process = Process(command, log=folder / "prometheus.log")
    url = f"http://127.0.0.1:{port}"
    try:
        _until_up(url, process)
        yield url
    finally:
        process.kill()


def _until_up(url: str, process: Process) -> None:
    deadline_s = time.monotonic() + STARTED_WITHIN_S
    while True:
        try:
            ask(url, "query", query="1")
        except OSError:
            if not process.running or time.monotonic() > deadline_s:
                raise Trouble(
                    "Prometheus did not start:\n" + process.last_lines()
                ) from None
            time.sleep(0.1)
        else:
            return


def ask(url: str, path: str, **parameters: str) -> list[dict[str, Any]]:
    """Ask Prometheus. Raises OSError when it does not answer."""
    query = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(  # noqa: S310 - on this machine
        f"{url}/api/v1/{path}?{query}", timeout=ANSWERS_WITHIN_S
    ) as answer:
        return json.load(answer)["data"]["result"]


# -- The page -------------------------------------------------------------------------


class Page(http.server.BaseHTTPRequestHandler):
    """The page, the dashboards, and where Prometheus is."""

    prometheus_url = ""

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].lstrip("/")
        if name in {"", "index.html"}:
            self._answer((ROOT / "tools" / "observe.html").read_bytes(), "text/html")
        elif name == "about.json":
            about = {"prometheus": self.prometheus_url, "dashboards": list(ORDER)}
            self._answer(json.dumps(about).encode(), "application/json")
        elif name in {f"dashboards/{one}.json" for one in ORDER}:
            file = DASHBOARDS / name.partition("/")[2]
            self._answer(file.read_bytes(), "application/json")
        else:
            self.send_error(404)

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", f"{kind}; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Somebody looks at curves, not at requests."""


def watch(base_port: int, page_port: int) -> None:
    """Show the curves of a running mesh until interrupted."""
    folder = Path(tempfile.mkdtemp(prefix="chatmesh-observe-"))
    try:
        with running(local_targets(base_port), folder, ports.free_port()) as url:
            page = type("Served", (Page,), {"prometheus_url": url})
            server = http.server.ThreadingHTTPServer(("127.0.0.1", page_port), page)
            print(f"curves:     http://127.0.0.1:{server.server_port}/")
            print(f"Prometheus: {url}/graph   (control-C ends both)", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                pass
            finally:
                server.server_close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# -- The picture ----------------------------------------------------------------------


async def picture(file: Path) -> None:
    """Curves of the message journey under a load that rises and falls."""
    folder = Path(tempfile.mkdtemp(prefix="chatmesh-observe-"))
    try:
        async with measured_mesh() as mesh:
            targets = {
                "gateway": [f"127.0.0.1:{one.http_port}" for one in mesh.gateways],
                "history": [f"127.0.0.1:{one.http_port}" for one in mesh.histories],
            }
            start = functools.partial(running, targets, folder, ports.free_port())
            with start() as url:
                began_s = time.time()
                await _talk(mesh)
                await asyncio.sleep(2 * EVERY_S)
                await asyncio.to_thread(_draw, url, began_s, time.time(), file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _talk(mesh: Mesh) -> None:
    for rate_per_s, seconds in PICTURE_ROUNDS:
        await measures.latency(mesh, members=50, rate_per_s=rate_per_s, seconds=seconds)


def _draw(url: str, began_s: float, ended_s: float, file: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - only a picture needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice above

    board: dict[str, Any] = json.loads((DASHBOARDS / f"{PICTURED}.json").read_text())
    panels = [one for one in board["panels"] if one["type"] != "row"]
    shown = [(panel, _curves(url, panel, began_s, ended_s)) for panel in panels]
    shown = [(panel, curves) for panel, curves in shown if curves]
    columns = 3
    rows = -(-len(shown) // columns)
    made, axes = plt.subplots(rows, columns, figsize=(15, 2.7 * rows), squeeze=False)
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    for axis, (panel, curves) in zip(axes.flat, shown, strict=False):
        for name, at, values in curves:
            axis.plot(at, values, label=name, linewidth=1.2)
        axis.set_title(panel["title"], fontsize=10, loc="left")
        axis.set_ylabel(panel["fieldConfig"]["defaults"]["unit"], fontsize=8)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=7)
        axis.grid(visible=True, alpha=0.3)
        axis.legend(fontsize=7, loc="upper right")
    made.suptitle(  # pyright: ignore[reportUnknownMemberType] - stubs with holes
        "The journey of a message: a real mesh under a load that rises and falls"
        " (seconds since the start)",
        fontsize=11,
    )
    made.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(file, dpi=90)  # pyright: ignore[reportUnknownMemberType]
    print(f"drawn: {file}")


def _curves(
    url: str, panel: dict[str, Any], began_s: float, ended_s: float
) -> list[tuple[str, list[float], list[float]]]:
    curves: list[tuple[str, list[float], list[float]]] = []
    for target in panel.get("targets", []):
        found = ask(
            url,
            "query_range",
            query=target["expr"]
            .replace("$__rate_interval", "10s")
            .replace("$namespace", ".*")
            .replace("$broker", ".*"),
            start=str(began_s),
            end=str(ended_s),
            step="1",
        )
        for one in found:
            name = target["legendFormat"]
            for label, value in one["metric"].items():
                name = name.replace(f"{{{{{label}}}}}", value)
            points = [(at - began_s, float(value)) for at, value in one["values"]]
            curves.append((name, [at for at, _ in points], [v for _, v in points]))
    return curves


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--base-port", type=int, default=8001, help="as CHATMESH_LOCAL_PORT"
    )
    parser.add_argument("--page-port", type=int, default=9100, help="of our page")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw and end")
    given = parser.parse_args(words)
    try:
        if given.picture is not None:
            asyncio.run(picture(given.picture))
        else:
            watch(given.base_port, given.page_port)
    except Trouble as trouble:
        print(f"chatmesh: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
