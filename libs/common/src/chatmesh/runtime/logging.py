"""One line per log record, for people or for machines.

What users write never enters a record: no message text, no token, no payload. Facts
that belong to a record go into `extra`, never into a formatted sentence, so that both
formats can show them: `log.info("broker link up", extra={"attempt": 3})`.
"""

import datetime
import json
import logging
import sys
from typing import Any, Final, Literal, TextIO

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

# Attributes every record has; whatever else stands there came by `extra`.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
}

_TALKATIVE: Final = (
    "aio_pika",
    "aiormq",
    "asyncio",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "mcp",
    "uvicorn",
    "websockets",
)
"""Libraries that report each of their own steps at level info."""

_UNPRINTABLE: Final = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))
}
"""A name somebody chose must not forge a line or move the cursor of a terminal."""


def configure(
    service: str,
    level: Level = "info",
    format: Format = "text",  # noqa: A002 - the setting's own name
    *,
    stream: TextIO | None = None,
) -> None:
    """Send every record of this process to `stream` (standard error), one line each.

    May be called again once settings are known; the last call wins.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json(service) if format == "json" else _Text(service))
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    chatty = logging.DEBUG if level == "debug" else logging.WARNING
    for library in _TALKATIVE:
        logging.getLogger(library).setLevel(chatty)


class _Text(logging.Formatter):
    """`12:30:01.250 INFO gateway bus.link: broker link up attempt=3`."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        facts = "".join(f" {k}={_plain(v)}" for k, v in _facts(record).items())
        name = record.name.removeprefix("chatmesh.")
        line = (
            f"{_moment(record):%H:%M:%S}.{int(record.msecs):03d} {record.levelname}"
            f" {self._service} {name}: {_plain(record.getMessage())}{facts}"
        )
        trace = _trace(self, record)
        return f"{line}\n{trace}" if trace else line


class _Json(logging.Formatter):
    """One JSON object: at, level, service, logger, message, the facts, the trace."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": _moment(record).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in _facts(record).items():
            line.setdefault(name, value)
        if trace := _trace(self, record):
            line["trace"] = trace
        return json.dumps(line, default=str, ensure_ascii=False)


def _moment(record: logging.LogRecord) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(record.created, datetime.UTC)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {k: v for k, v in vars(record).items() if k not in _STANDARD}


def _plain(value: object) -> str:
    return str(value).translate(_UNPRINTABLE)


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts: list[str] = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)
