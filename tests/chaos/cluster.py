"""Cutting a RabbitMQ node off from its cluster, without touching the machine's network.

Erlang nodes talk to whom they share a secret with. A node that gives its neighbours a
wrong one and hangs up is as far from them as behind a broken switch; given the right
one again it is back.
"""

from collections.abc import Sequence
from typing import Final

from chatmesh.local.rabbit import Node

_WRONG: Final = "not_the_secret_of_this_cluster"


async def part(node: Node, others: Sequence[Node]) -> None:
    """Hang up on the others and answer none of their calls."""
    steps = [
        f"erlang:set_cookie('{other.name}', {_WRONG}), "
        f"erlang:disconnect_node('{other.name}')"
        for other in others
    ]
    await node.command("eval", f"{', '.join(steps)}.")
    # A cut that cut nothing would prove nothing; this fails if one is still there.
    names = ", ".join(f"'{other.name}'" for other in others)
    left = f"[] = [N || N <- nodes(), lists:member(N, [{names}])]."
    await node.command("eval", left)


async def join_again(node: Node, others: Sequence[Node]) -> None:
    """Take calls again, and make one; the cluster heals by itself."""
    steps = [
        f"erlang:set_cookie('{other.name}', erlang:get_cookie()), "
        f"net_kernel:connect_node('{other.name}')"
        for other in others
    ]
    await node.command("eval", f"{', '.join(steps)}.")
