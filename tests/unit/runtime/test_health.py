"""Readiness: every declared check good, and nobody draining."""

from chatmesh.runtime.health import Health


def test_a_declared_check_is_bad_until_somebody_looked() -> None:
    """A process is not ready by default."""
    health = Health("broker", "canary")
    health.set("broker", ok=True)

    assert not health.ready
    assert health.report()["checks"]["canary"] == {
        "ok": False,
        "reason": "not checked yet",
    }


def test_ready_when_every_check_is_good() -> None:
    """All checks, also those that were not declared."""
    health = Health("broker")
    health.set("broker", ok=True)
    health.set("canary", ok=True, reason="seen 40 ms ago")

    assert health.report() == {
        "ready": True,
        "checks": {
            "broker": {"ok": True, "reason": ""},
            "canary": {"ok": True, "reason": "seen 40 ms ago"},
        },
    }


def test_one_bad_check_says_why() -> None:
    """The reason reaches whoever asks."""
    health = Health("broker")
    health.set("broker", ok=True)
    health.set("broker", ok=False, reason="connection refused")

    assert not health.ready
    assert health.report()["checks"]["broker"]["reason"] == "connection refused"


def test_draining_is_final() -> None:
    """No good news makes a draining process ready again."""
    health = Health("broker")
    health.drain()
    health.set("broker", ok=True)

    assert health.draining
    assert not health.ready
    assert "drain" in health.report()["checks"]
