"""What may be fetched: the public internet, whatever spelling leads elsewhere."""

import pytest

from chatmesh.agent.tools.builtin.addresses import is_public, url_refusal


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f::1", "8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_let_through(address: str) -> None:
    """Ordinary addresses are fine."""
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - refused
        "255.255.255.255",
        "224.0.0.1",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "ff02::1",
        "64:ff9b:1::a00:1",
        "64:ff9b:1:ffff::1",
        "::10.0.0.1",
        "::8.8.8.8",
        "fec0::1",
        "feff::1",
        "240.0.0.1",
        "4000::1",
        "localhost",
        "",
    ],
)
def test_everything_else_is_inside(address: str) -> None:
    """Loopback, private, link-local and wrapped ones are not."""
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.org/", "http and https"),
        ("file:/etc/passwd", "http and https"),
        ("http://", "no host"),
        ("http://ada:secret@example.org/", "password"),
        ("http://example.org:99999/", "no URL"),
        ("http://example.org/" + "a" * 2000, "characters"),
        ("http://[::1", "no URL"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, words: str) -> None:
    """The reason is a sentence for the model."""
    assert words in (url_refusal(url) or "")


def test_an_ordinary_url_is_fetched() -> None:
    """Ports and queries are fine."""
    assert url_refusal("https://example.org:8443/a?b=c#d") is None
