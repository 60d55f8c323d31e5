"""Which commands wait for a subscribe before them, because it decides on them.

A second subscribe and an unsubscribe have rules of their own, see `subscribe`.
"""

from chatmesh.gateway.bodies import BadBody, Call, Where, body_of
from chatmesh.gateway.rules.footing import Footing
from chatmesh.gateway.subscriptions import Subscription
from chatmesh.wire import client


def waits_for(session: Footing, request: client.Request) -> Subscription | None:
    """The subscription that has to be decided before this command; None: nothing has."""
    match request:
        case client.RPCRequest():
            sub = session.subscriptions.get(_channel_of(request))
            if request.method != Call.SEND:
                # Who may call is who has joined.
                return sub if sub is not None and not sub.joined else None
        case (
            client.PublishRequest()
            | client.HistoryRequest()
            | client.PresenceRequest()
            | client.PresenceStatsRequest()
            | client.SubRefreshRequest()
        ):
            sub = session.subscriptions.get(request.channel)
        case _:
            return None
    # Where it is allowed already, only the channel is not ready yet.
    undecided = sub is not None and not sub.joined and (not sub.allowed or sub.behind)
    return sub if undecided else None


def _channel_of(request: client.RPCRequest) -> str:
    """Empty where the body cannot be read: it is refused for that, at once."""
    try:
        return body_of(request.data, Where).channel
    except BadBody:
        return ""
