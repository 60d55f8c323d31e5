"""What `make run` and its clients agree on so that the first minute needs no set-up."""

from typing import Final

DEVELOPMENT_SECRET: Final = "chatmesh-development-secret-known-to-everybody"  # noqa: S105
"""Signs tokens on a developer's own machine. Public, so it protects nothing: only
`make run` and tests hand it to a gateway, and clients use it for loopback URLs only."""
