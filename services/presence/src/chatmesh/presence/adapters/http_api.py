"""The service API: who is in a channel, how many, where is a user, and their status."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import unquote

import fastapi
import pydantic
from fastapi.responses import Response
from starlette.types import ASGIApp

from chatmesh.presence.ports import (
    BookRefused,
    BookUnavailable,
    Directory,
    User,
)
from chatmesh.presence.reports import refuse_status
from chatmesh.presence.settings import SECTION
from chatmesh.runtime import service_api
from chatmesh.runtime.service_api import (
    Access,
    ChannelName,
    Refusal,
    answer,
    documented,
)
from chatmesh.wire import errors, limits, users
from chatmesh.wire.infos import client_info
from chatmesh.wire.presence import Member

T = TypeVar("T")

TellStatus = Callable[[str], Awaitable[None]]

_PAGE_DEFAULT: Final = 100
_USER_PATTERN: Final = r"^[^\u0000]{1,255}$"
_AFTER_PATTERN: Final = r"^[^\u0000]*$"
_NAME_PART_PATTERN: Final = "^[!-~]*$"
_STATUS_PATTERN: Final = r"^[^\u0000-\u001f]*$"


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(use_attribute_docstrings=True)


class ChannelCounts(_Model):
    channel: str
    num_clients: int
    num_users: int
    """An anonymous connection counts as a user of its own."""


class ChannelPage(_Model):
    channels: list[ChannelCounts]
    after: str | None
    """Ask for this next; null when this was the last page."""


class MemberInfo(_Model):
    client: str
    """Id of the connection; merged: of the one the user was announced with."""
    user: str
    """Empty for an anonymous connection."""
    conn_info: Any = None
    chan_info: Any = None
    b64conn_info: str | None = None
    """The info in base64, where it is no JSON; so is the next one."""
    b64chan_info: str | None = None
    lost: bool
    """In its grace: gone without a word, and perhaps back in a moment."""
    connections: int
    status_text: str = ""
    """Merged only, as the next field."""
    do_not_disturb: bool = False


class MemberPage(_Model):
    channel: str
    num_clients: int
    num_users: int
    members: list[MemberInfo]
    after: str | None
    """Ask for this next; null when this was the last page."""


class UserInfo(_Model):
    user: str
    online: bool
    channels: list[str]
    connections: int
    last_seen_ms: int
    """Milliseconds since the Unix epoch, by the database's clock; 0 if never seen."""
    status_text: str
    do_not_disturb: bool


class NewStatus(_Model):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    text: Annotated[
        str,
        pydantic.Field(max_length=limits.STATUS_CHARS_MAX, pattern=_STATUS_PATTERN),
    ] = ""
    do_not_disturb: bool = False


class Totals(_Model):
    channels: int
    """That somebody is in."""
    connections: int
    """Each as often as the channels it is in."""
    users: int


async def user_name(  # noqa: RUF029 - on the loop, not on a thread
    user: Annotated[
        str,
        fastapi.Path(
            description="Name of the user, percent-encoded.",
            json_schema_extra={"pattern": _USER_PATTERN},
        ),
    ],
) -> str:
    """The user named in the path. Raises Refusal."""
    try:
        name = unquote(user, errors="strict")
    except UnicodeDecodeError as error:
        raise Refusal(422, "a user name is UTF-8", errors.BAD_REQUEST.code) from error
    if reason := users.refusal(name):
        raise Refusal(422, reason, errors.BAD_REQUEST.code)
    return name


UserName = Annotated[str, fastapi.Depends(user_name)]
Limit = Annotated[int, fastapi.Query(ge=1, le=limits.PRESENCE_PAGE_MEMBERS_MAX)]
After = Annotated[str, fastapi.Query(max_length=300, pattern=_AFTER_PATTERN)]
NamePart = Annotated[
    str,
    fastapi.Query(max_length=limits.CHANNEL_CHARS_MAX, pattern=_NAME_PART_PATTERN),
]


def application(
    *,
    directory: Directory,
    tell_status: TellStatus,
    access: Access,
    operations: fastapi.APIRouter,
) -> ASGIApp:
    """The ASGI application of the HTTP port."""
    return service_api.application(
        service=SECTION,
        summary="Who is where.",
        access=access,
        operations=operations,
        api=_ServiceApi(directory, tell_status).router(access),
    )


class _ServiceApi:
    """The routes below /v1."""

    def __init__(self, directory: Directory, tell_status: TellStatus) -> None:
        self._directory = directory
        self._tell_status = tell_status

    def router(self, access: Access) -> fastapi.APIRouter:
        router = fastapi.APIRouter(
            prefix="/v1",
            tags=["presence"],
            dependencies=[fastapi.Depends(access.admit)],
            responses=documented(401, 403, 422, 503),
            default_response_class=Response,
        )
        get = router.get
        get("/channels", responses={200: {"model": ChannelPage}})(self.list_channels)
        get("/channels/{channel}", responses={200: {"model": ChannelCounts}})(
            self.get_channel
        )
        get("/channels/{channel}/members", responses={200: {"model": MemberPage}})(
            self.list_members
        )
        get("/users/{user}", responses={200: {"model": UserInfo}})(self.get_user)
        router.put(
            "/users/{user}/status",
            responses={200: {"model": UserInfo}, **documented(400)},
        )(self.set_status)
        get("/counts", responses={200: {"model": Totals}})(self.counts)
        return router

    async def list_channels(
        self, prefix: NamePart = "", after: NamePart = "", limit: Limit = _PAGE_DEFAULT
    ) -> Response:
        """Channels that somebody is in, in name order."""
        found = await _answered(self._directory.channels(after, prefix, limit + 1))
        page = found[:limit]
        return answer(
            {
                "channels": [
                    _counts(one.channel, one.counts.clients, one.counts.users)
                    for one in page
                ],
                "after": page[-1].channel if len(found) > limit else None,
            }
        )

    async def get_channel(self, channel: ChannelName) -> Response:
        """How many are in a channel; none in one that nobody has heard of."""
        (counts,) = await _answered(self._directory.counts([channel]))
        return answer(_counts(channel, counts.clients, counts.users))

    async def list_members(
        self,
        channel: ChannelName,
        after: After = "",
        limit: Limit = _PAGE_DEFAULT,
        *,
        merged: bool = False,
    ) -> Response:
        """Who is in a channel: connections or, merged, users with their status."""
        (counts,) = await _answered(self._directory.counts([channel]))
        if merged:
            found = await _answered(self._directory.people(channel, after, limit + 1))
        else:
            members = await _answered(
                self._directory.members(channel, after, limit + 1)
            )
            found = [(member.client, member) for member in members]
        page = found[:limit]
        return answer(
            {
                **_counts(channel, counts.clients, counts.users),
                "members": [_member(member) for _, member in page],
                "after": page[-1][0] if len(found) > limit else None,
            }
        )

    async def get_user(self, user: UserName) -> Response:
        """Where a user is, when they were last seen, what they say about themselves."""
        return answer(_user(user, await _answered(self._directory.user(user))))

    async def set_status(self, user: UserName, status: NewStatus) -> Response:
        """Set a user's status, and tell it where they are."""
        if reason := refuse_status(status.text):
            raise Refusal(422, reason, errors.BAD_REQUEST.code)
        await _answered(
            self._directory.set_status(
                user, status.text, do_not_disturb=status.do_not_disturb
            )
        )
        await _answered(self._tell_status(user))
        return answer(_user(user, await _answered(self._directory.user(user))))

    async def counts(self) -> Response:
        """How much there is."""
        there = await _answered(self._directory.totals())
        return answer(there._asdict())


async def _answered(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except (BookUnavailable, BookRefused) as error:
        raise Refusal(
            503, "the database does not answer", errors.INTERNAL.code
        ) from error


def _counts(channel: str, clients: int, users: int) -> dict[str, object]:
    return {"channel": channel, "num_clients": clients, "num_users": users}


def _member(member: Member) -> dict[str, object]:
    infos = client_info(member.user, member.client, member.conn_info, member.chan_info)
    return {
        "client": member.client,
        "user": member.user,
        "conn_info": infos.conn_info or None,
        "chan_info": infos.chan_info or None,
        "b64conn_info": infos.b64conn_info or None,
        "b64chan_info": infos.b64chan_info or None,
        "lost": member.lost,
        "connections": member.connections,
        "status_text": member.status_text,
        "do_not_disturb": member.do_not_disturb,
    }


def _user(name: str, user: User) -> dict[str, object]:
    return {"user": name, "online": user.connections > 0, **user._asdict()}
