"""Who is connected here, by user and by session: found without asking everybody."""

from collections.abc import Iterable

from chatmesh.gateway.connection import Connection
from chatmesh.wire.control import Target


class People:
    """Connections by user, once a token has said who that is.

    They may still be waiting for their channels then: who is sent away or refused a
    channel must not come in behind it.
    """

    def __init__(self) -> None:
        self._strangers: dict[Connection, None] = {}
        """Not known by name yet; looked at again when somebody is looked for."""
        self._users: dict[str, dict[Connection, None]] = {}
        self._clients: dict[str, Connection] = {}
        """The same ones by client id, which is told to nobody before."""
        self._streams: dict[str, Connection] = {}
        """Those over HTTP fallbacks, by their secret session."""

    def __len__(self) -> int:
        """Users, with all that are nobody as one."""
        self._introduce()
        return len(self._users)

    def enter(self, connection: Connection) -> None:
        self._strangers[connection] = None
        if connection.session.session_id:
            self._streams[connection.session.session_id] = connection

    def leave(self, connection: Connection) -> None:
        self._strangers.pop(connection, None)
        self._clients.pop(connection.session.client_id, None)
        self._streams.pop(connection.session.session_id, None)
        user = connection.session.user
        theirs = self._users.get(user)
        if theirs is not None:
            theirs.pop(connection, None)
            if not theirs:
                del self._users[user]

    def stream(self, session_id: str) -> Connection | None:
        """The connection whose commands come beside its stream."""
        return self._streams.get(session_id)

    def find(self, target: Target) -> list[Connection]:
        """The connections that are meant; a copy, because acting on one may end it."""
        self._introduce()
        return [
            connection
            for connection in self._candidates(target)
            if connection.session.known
            and target.user in {"", connection.session.user}
            and target.client in {"", connection.session.client_id}
            and target.session in {"", connection.session.session_id}
        ]

    def _candidates(self, target: Target) -> Iterable[Connection]:
        """Those of the user, or the one connection that is meant whoever it is of."""
        if target.user:
            return self._users.get(target.user, ())
        if target.client:
            one = self._clients.get(target.client)
        else:
            one = self._streams.get(target.session)
        return () if one is None else (one,)

    def _introduce(self) -> None:
        known = [one for one in self._strangers if one.session.known]
        for connection in known:
            del self._strangers[connection]
            session = connection.session
            self._users.setdefault(session.user, {})[connection] = None
            self._clients[session.client_id] = connection
