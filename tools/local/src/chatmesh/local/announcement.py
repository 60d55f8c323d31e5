"""The one block that `make run` prints: where to click, how to chat, how to stop."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What there is to say about a running mesh."""

    seconds: float
    pages: Sequence[str]
    sockets: Sequence[str]
    page_trouble: str | None
    history_api: str
    chat_command: str
    broker: str
    database: str
    logs: str
    settings: str
    """The file that says where broker and database are, for `chatmesh doctor`."""
    agents: bool = True


_LABEL_WIDTH = 12


def announcement(facts: Facts) -> str:
    """The text of the block."""
    rows = [*_page_rows(facts), *_terminal_rows(facts)]
    if facts.agents:
        rows.append(("Agent", "write @helper in a room, or ask in room helper"))
    rows.append(("Health", _doctor(facts)))
    rows.append(("Messages", f"{facts.history_api}/docs  (service API of history)"))
    rows.append(("Broker", facts.broker))
    rows.append(("Database", facts.database))
    rows.append(("Logs", facts.logs))
    rows.append(("Stop", "Ctrl-C"))
    lines = [f"  {label:<{_LABEL_WIDTH}}{text}" for label, text in rows]
    width = max(len(line) for line in lines) + 2
    rule = "─" * width
    head = f"  chatmesh is up ({facts.seconds:.1f} s)"
    warning = (
        "  DEVELOPMENT LOGIN: anybody who reaches these ports may be anyone, and the\n"
        "  secret is a public one. For your own machine only."
    )
    return "\n".join([rule, head, "", *lines, "", warning, rule])


def _doctor(facts: Facts) -> str:
    words = [facts.chat_command, "doctor", "--config", facts.settings]
    for socket in facts.sockets:
        words += ["--gateway", socket]
    return " ".join(words)


def _page_rows(facts: Facts) -> list[tuple[str, str]]:
    if facts.page_trouble is not None:
        return [("Web page", f"{facts.page_trouble} (the rest works)")]
    first, *more = facts.pages
    rows = [("Web page", first)]
    rows += [("", f"{page}  (the same rooms, another gateway)") for page in more]
    return rows


def _terminal_rows(facts: Facts) -> list[tuple[str, str]]:
    first, *more = facts.sockets
    command = facts.chat_command
    rows = [("Terminal", f"{command} chat lobby --user ada --url {first}")]
    if more:
        rows.append(("", f"{command} chat lobby --user bob --url {more[0]}"))
    return rows
