"""The generated Protobuf code is what its `.proto` says; a change of one is one of both."""

import re
from collections.abc import Iterator
from importlib import resources
from typing import Final, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from chatmesh.wire import protobuf
from chatmesh.wire.protobuf import client_pb2 as pb

AGAIN: Final = (
    "generate it again: protoc -I libs/common/src --python_out=libs/common/src"
    " --pyi_out=libs/common/src chatmesh/wire/protobuf/client.proto"
)
SCALARS: Final = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_SINT64: "sint64",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}
_BLOCK: Final = re.compile(r"(message|oneof)\s+(\w+)\s*\{|(\})|([^;{}]+);")
_FIELD: Final = re.compile(
    r"(?P<repeated>repeated\s+)?"
    r"(?P<type>map<\s*\w+\s*,\s*\w+\s*>|\w+)\s+(?P<name>\w+)\s*=\s*(?P<number>\d+)"
)


class Field(NamedTuple):
    message: str
    number: int
    name: str
    type: str
    repeated: bool = False
    oneof: str = ""


def written() -> Iterator[Field | str]:
    """Fields of the `.proto`, and the names of its messages. It may use no other words."""
    text = resources.files(protobuf).joinpath("client.proto").read_text()
    text = re.sub(r"//[^\n]*", "", text)
    header, _, body = text.partition("package chatmesh.wire;")
    assert header.strip() == 'syntax = "proto3";'
    message = oneof = ""
    read = 0
    for found in _BLOCK.finditer(body):
        assert not body[read : found.start()].strip(), body[read : found.start()]
        read = found.end()
        kind, name, end, statement = found.groups()
        if kind == "message":
            message = name
            yield name
        elif kind == "oneof":
            oneof = name
        elif end:
            message, oneof = ("", "") if not oneof else (message, "")
        else:
            field = _FIELD.fullmatch(statement.strip())
            assert field, statement
            kind = re.sub(r"\s", "", field["type"])
            number = int(field["number"])
            repeated = bool(field["repeated"])
            yield Field(message, number, field["name"], kind, repeated, oneof)
    assert not body[read:].strip()


def generated() -> Iterator[Field | str]:
    for message in pb.DESCRIPTOR.message_types_by_name.values():
        yield message.name
        for field in message.fields:
            entry = field.message_type
            map_type = ""
            if entry is not None and entry.GetOptions().map_entry:
                map_type = _map_of(entry)
            oneof = field.containing_oneof
            yield Field(
                message.name,
                field.number,
                field.name,
                map_type or _type_of(field),
                field.is_repeated and not map_type,
                oneof.name if oneof is not None else "",
            )


def _type_of(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return field.message_type.name
    return SCALARS[field.type]


def _map_of(entry: Descriptor) -> str:
    key, value = (entry.fields_by_name[name] for name in ("key", "value"))
    return f"map<{_type_of(key)},{_type_of(value)}>"


def test_the_generated_code_is_of_this_schema() -> None:
    """Every message and field by name, number and type, and nothing more."""
    assert pb.DESCRIPTOR.package == "chatmesh.wire"
    assert set(written()) == set(generated()), AGAIN


def test_the_numbers_are_those_of_the_protocol() -> None:
    """The ones a client could least do without, written down once more by hand."""
    known = {f for f in generated() if isinstance(f, Field)}

    assert known >= {
        Field("Command", 1, "id", "uint32"),
        Field("Command", 4, "connect", "ConnectRequest", oneof="request"),
        Field("Command", 15, "sub_refresh", "SubRefreshRequest", oneof="request"),
        Field("Reply", 2, "error", "Error"),
        Field("Reply", 4, "push", "Push"),
        Field("Reply", 5, "connect", "ConnectResult"),
        Field("Push", 2, "channel", "string"),
        Field("Push", 4, "pub", "Publication"),
        Field("Push", 11, "disconnect", "Disconnect"),
        Field("Publication", 4, "data", "bytes"),
        Field("Publication", 6, "offset", "uint64"),
        Field("Publication", 7, "tags", "map<string,string>"),
        Field("Publication", 8, "delta", "bool"),
        Field("Publication", 9, "time", "int64"),
        Field("SubscribeRequest", 14, "flag", "int64"),
        Field("SubscribeResult", 8, "recovered", "bool"),
        Field("HistoryRequest", 7, "limit", "int32"),
        Field("EmulationRequest", 3, "data", "bytes"),
        Field("FilterNode", 6, "nodes", "FilterNode", repeated=True),
    }
