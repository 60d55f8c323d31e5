"""Logs: one line per record, facts visible in both formats, nothing forged."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from chatmesh.runtime.logging import Format, Level, configure


@pytest.fixture(autouse=True)
def _restore_root() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.captureWarnings(capture=False)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def written(
    format: Format,  # noqa: A002 - as the setting
    level: Level = "info",
    logger: str = "chatmesh.bus.link",
    **record: object,
) -> str:
    """What one warning looks like."""
    stream = io.StringIO()
    configure("gateway", level, format, stream=stream)
    extra = {k: v for k, v in record.items() if k != "exc_info"}
    logging.getLogger(logger).warning(
        "link down", extra=extra, exc_info=bool(record.get("exc_info"))
    )
    return stream.getvalue()


def test_a_text_line_shows_service_place_and_facts() -> None:
    """Somebody reading a terminal sees all of it on one line."""
    line = written("text", attempt=3, cause="refused")

    assert line.endswith(
        " WARNING gateway bus.link: link down attempt=3 cause=refused\n"
    )


def test_a_json_line_is_one_object() -> None:
    """A collector gets every fact under its own name."""
    record = json.loads(written("json", attempt=3))

    assert record.pop("at").endswith("+00:00")
    assert record == {
        "level": "warning",
        "service": "gateway",
        "logger": "chatmesh.bus.link",
        "message": "link down",
        "attempt": 3,
    }


def test_a_fact_cannot_replace_what_a_line_is_about() -> None:
    """A fact called `service` does not hide which service speaks."""
    assert json.loads(written("json", service="mallory"))["service"] == "gateway"


def test_a_name_cannot_forge_a_line() -> None:
    """Control characters somebody put into a name are shown, not obeyed."""
    line = written("text", user="ada\n12:00:00.000 ERROR gateway: \x1b[31mfire")

    assert line.count("\n") == 1
    assert "\x1b" not in line


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_failure_carries_its_traceback(format: Format) -> None:  # noqa: A002
    """Who looks for the cause finds the place."""
    line = ""
    try:
        {}["missing"]
    except KeyError:
        line = written(format, exc_info=True)

    assert "test_logging.py" in line
    assert "KeyError: 'missing'" in line


def test_talkative_libraries_are_heard_from_warnings_on() -> None:
    """Request lines of libraries do not bury ours, unless one is debugging."""
    stream = io.StringIO()
    configure("gateway", stream=stream)
    logging.getLogger("httpx").info("GET /")
    logging.getLogger("chatmesh.gateway").info("ready")
    assert stream.getvalue().count("\n") == 1

    configure("gateway", "debug", stream=stream)
    logging.getLogger("httpx").info("GET /")
    assert "GET /" in stream.getvalue()


def test_the_level_holds() -> None:
    """What is less severe than the level is not written."""
    assert not written("text", level="error")
