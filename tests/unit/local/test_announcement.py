"""The block that `make run` prints."""

from dataclasses import replace

from chatmesh.local.announcement import Facts, announcement
from chatmesh.local.web_page import Page

FACTS = Facts(
    seconds=6.4,
    pages=["http://127.0.0.1:8001", "http://127.0.0.1:8002"],
    sockets=["ws://127.0.0.1:8001/c", "ws://127.0.0.1:8002/c"],
    page_trouble=None,
    history_api="http://127.0.0.1:9010",
    chat_command="chatmesh",
    broker="private RabbitMQ on port 20000",
    database="embedded PostgreSQL",
    logs=".chatmesh/logs",
    settings=".chatmesh/mesh.json",
)


def test_it_says_where_to_click_how_to_chat_and_how_to_stop() -> None:
    """All that a newcomer wants to know next."""
    text = announcement(FACTS)

    assert "http://127.0.0.1:8001\n" in text
    assert "http://127.0.0.1:8002  (the same rooms, another gateway)" in text
    assert "chatmesh chat lobby --user ada --url ws://127.0.0.1:8001/c" in text
    assert "chatmesh chat lobby --user bob --url ws://127.0.0.1:8002/c" in text
    assert "@helper" in text
    assert "chatmesh doctor --config .chatmesh/mesh.json --gateway ws://" in text
    assert "Ctrl-C" in text


def test_it_is_loud_about_the_development_login() -> None:
    """Nobody shall take this for a deployment."""
    assert "DEVELOPMENT LOGIN" in announcement(FACTS)


def test_without_a_page_it_says_why_instead_of_naming_a_dead_page() -> None:
    """A page that is not there is not offered."""
    text = announcement(replace(FACTS, page_trouble=Page.NO_NODE.value))

    assert "Node.js 20 or newer and npm are missing (the rest works)" in text
    assert "http://127.0.0.1:8001\n" not in text


def test_one_gateway_is_enough() -> None:
    """No second line is invented."""
    text = announcement(
        replace(FACTS, pages=FACTS.pages[:1], sockets=FACTS.sockets[:1])
    )

    assert "another gateway" not in text
    assert "bob" not in text
