"""What the service API says and hears, for its OpenAPI document."""

from typing import Annotated, Any, Final

import pydantic

from chatmesh.wire import limits

USER_CHARS_MAX: Final = 255
_NO_NUL: Final = r"^[^\u0000]*$"


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(use_attribute_docstrings=True)


class ChannelInfo(_Model):
    channel: str
    epoch: str
    """Name of the log's life; offsets of different epochs do not compare."""
    top: int
    """Offset of the newest publication; 0 when there has been none."""
    floor: int
    """Highest offset removed by retention."""
    publications: int
    """Publications kept: top - floor."""


class ChannelPage(_Model):
    channels: list[ChannelInfo]
    after: str | None
    """Ask for this next; null when this was the last page."""


class Publication(_Model):
    offset: int
    id: str
    at_ms: int
    """When it was committed: milliseconds since the Unix epoch, by the database's clock."""
    data: Any = None
    """The payload, when it is JSON."""
    data_base64: str | None = None
    """The payload, when it is not JSON, or nested too deeply to be shown as such."""
    info: Any = None
    """Who published it, as the subscribers see it; null for the server itself."""
    tags: dict[str, str] = {}


class PublicationPage(_Model):
    channel: str
    epoch: str
    top: int
    floor: int
    publications: list[Publication]
    since: int | None
    """Ask for this next; null when there is nothing further in this direction."""


class Published(_Model):
    channel: str
    id: str
    offset: int
    epoch: str
    at_ms: int


class Counts(_Model):
    channels: int
    publications: int
    """Publications kept."""
    ids: int
    """Publications there have ever been; their ids stay taken."""


class NewPublication(_Model):
    """Documents the body of POST; it is read so that data stays as it was sent."""

    model_config = pydantic.ConfigDict(extra="forbid")

    id: Annotated[
        str,
        pydantic.Field(
            min_length=1,
            max_length=limits.MESSAGE_ID_CHARS_MAX,
            pattern=_NO_NUL,
        ),
    ]
    """Your own id: the same id and data again is the same publication."""
    data: Any
    """The payload, any JSON."""
    user: Annotated[str, pydantic.Field(max_length=USER_CHARS_MAX, pattern=_NO_NUL)] = (
        ""
    )
    """On whose behalf; empty: the server's own."""
