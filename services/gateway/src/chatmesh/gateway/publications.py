"""Publications as a gateway holds them: encoded once, shared by everyone who hears them."""

from msgspec import Raw

from chatmesh.wire import client_json, client_protobuf
from chatmesh.wire.messages import Entry


class Committed:
    """A committed entry with its encodings, made on first use and shared.

    `json` raises nothing: a payload that is no JSON has an empty encoding, and
    `binary` says so, because a JSON client cannot be given it.
    """

    __slots__ = ("_json", "_protobuf", "binary", "entry", "size")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.binary = False
        try:
            self._json = Raw(client_json.encode_entry(entry))
        except client_json.BinaryPayload:
            self.binary = True
            self._json = Raw(b"")
        self._protobuf = b""
        self.size = (len(self._json) or len(entry.data) + len(entry.info)) + 1
        """Bytes it takes in a reply, with its separator."""

    @property
    def offset(self) -> int:
        return self.entry.offset

    @property
    def protobuf(self) -> bytes:
        """Made when the first Protobuf client needs it: most deployments have none."""
        if not self._protobuf:
            self._protobuf = client_protobuf.encode_entry(self.entry)
        return self._protobuf

    @property
    def json(self) -> Raw:
        return self._json
