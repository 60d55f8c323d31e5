"""Ports that are free."""

import socket

import pytest

from chatmesh.local import ports


def test_a_port_somebody_listens_on_is_busy() -> None:
    """It is named, so that the newcomer knows which."""
    with socket.socket() as server:
        server.bind((ports.LOOPBACK, 0))
        server.listen()
        taken = server.getsockname()[1]

        assert ports.busy([taken]) == [taken]
        assert ports.keep_or_pick(taken) != taken


def test_a_free_port_stays_the_same_from_run_to_run() -> None:
    """Addresses in a shell's history go on working."""
    port = ports.free_port()

    assert ports.keep_or_pick(port) == port


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    """Otherwise the kernel may give one away between the look and the bind."""
    assert all(ports.FIRST <= ports.free_port() <= ports.LAST for _ in range(20))


def test_test_runs_beside_each_other_pick_from_shares_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the pick and the bind no other run can have the same idea."""
    shares = [ports.share(number, of=3) for number in range(3)]
    picked: list[set[int]] = []
    for mine in shares:
        monkeypatch.setenv(ports.SHARE, mine)
        picked.append({ports.free_port() for _ in range(30)})

    assert not picked[0] & picked[1]
    assert not picked[1] & picked[2]
    assert all(ports.FIRST <= port <= ports.LAST for some in picked for port in some)
    assert shares[0].startswith(f"{ports.FIRST}-")
