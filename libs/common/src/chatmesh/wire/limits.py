"""Every bound two processes share, with its unit; service-only knobs live in settings."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

COMMAND_BYTES_MAX: Final = 64 * KIB
"""One client command, and one client frame of a single command."""

CHANNEL_CHARS_MAX: Final = 255
CHANNELS_PER_CONNECTION_MAX: Final = 128

MESSAGE_ID_CHARS_MAX: Final = 128
"""The client's own id of a durable publication, unique in its channel for ever."""

PUBLICATION_BYTES_MAX: Final = COMMAND_BYTES_MAX
"""The payload of one publication, from whichever side it enters."""

TAGS_CHARS_MAX: Final = 4 * KIB
"""Names and values of the tags of one publication."""

JSON_DEPTH_MAX: Final = 64
"""Arrays and objects within each other in one payload; deeper JSON is refused.

Far below what exhausts the stack of any decoder that meets the payload later.
"""

RECOVERY_BYTES_MAX: Final = 1 * MIB - 4 * KIB
"""Encoded bytes one subscribe reply may recover; beyond it the client pages history.

A little less than the 1 MiB at which the message buffers of older SDKs end, because the
reply has an envelope of its own.
"""

PAGE_ENTRIES_MAX: Final = 1000
"""Entries one history page holds at most, whatever limit was asked for."""

PAGE_BYTES_MAX: Final = 4 * MIB
"""Payloads, infos and tags one history page holds at most.

A broker message stays far below 16 MiB, also as base64.
"""

PARTITIONS: Final = 16
"""Command queues; a channel's commands all go through one of them."""

COMMANDS_PER_BATCH_MAX: Final = 512
BATCH_BYTES_MAX: Final = 1 * MIB
"""Payload bytes gathered into one broker message before the next one starts."""

PRESENCE_LEASE_S: Final = 10
"""A process that has not renewed for so long is gone, and its connections with it."""

PRESENCE_RENEW_S: Final = 3
"""How often a process renews the one lease of all its connections."""

TYPING_LEASE_S: Final = 5
"""How long somebody counts as typing after the last word of it."""

PRESENCE_CHANGES_PER_REPORT_MAX: Final = 2000
"""Changes in one report, and in one part of a snapshot."""

PRESENCE_QUEUE_BYTES_MAX: Final = 64 * MIB
"""Reports waiting in one partition; beyond it the oldest are dropped."""

PRESENCE_PAGE_MEMBERS_MAX: Final = 1000
"""Members in one page; a whole room comes in as many pages as it takes."""

STATUS_CHARS_MAX: Final = 200
"""A status text: a line, not a letter."""

SERVICE_CALL_S: Final = 5
"""How long a gateway waits for the answer to a call it has forwarded."""

COMMANDS_IN_FLIGHT_PER_CONNECTION_MAX: Final = 10_000
"""Commands of one connection that may wait for their answers at once."""

SERVICE_CALLS_PER_CONNECTION_MAX: Final = 16
"""Forwarded calls of one connection that may wait for their answers at once."""

SERVICE_ANSWER_BYTES_MAX: Final = RECOVERY_BYTES_MAX
"""JSON of one answer to a forwarded call: it goes to the client in one frame."""

FENCES_PER_GATEWAY_MAX: Final = 10_000
"""Runs whose epoch a gateway remembers; the one unheard for longest is forgotten."""

TOOL_LEASE_S: Final = 30
"""Tools of a worker that has not registered again for so long are not offered any more."""

TOOL_RENEW_S: Final = 10
"""How often a worker registers again."""

TOOL_CALLS_WAITING_MAX: Final = 1000
"""Calls waiting in one pool; further ones are refused at once."""

TOOLS_PER_WORKER_MAX: Final = 200
TOOL_SCHEMA_BYTES_MAX: Final = 64 * KIB
"""JSON Schema of the arguments, or of the result, of one tool."""
TOOL_DESCRIPTION_CHARS_MAX: Final = 4000

TOOL_ARGUMENTS_BYTES_MAX: Final = 64 * KIB

TOOL_INLINE_BYTES_MAX: Final = 256 * KIB
"""A larger result is kept and passed by reference."""

TOOL_RESULT_BYTES_MAX: Final = 8 * MIB
"""A larger result is none: the worker reports a failure instead."""

TOOL_TIMEOUT_S_MAX: Final = 3600

DELIVERY_LIMIT: Final = 20
"""Redeliveries of one command batch before the broker itself dead-letters it."""

ROUTING_WORD_BYTES_MAX: Final = 160
"""A routing key has three words and 255 bytes; longer channel names are hashed."""

OFFSET_MAX: Final = 2**53 - 1
"""JavaScript clients read offsets as doubles."""

TTL_S_MAX: Final = 365 * 24 * 3600
"""Time-to-live told to SDKs, which keep it in 32-bit timers."""

REASON_BYTES_MAX: Final = 123
"""A close frame carries a two-byte code and this much reason."""

assert PUBLICATION_BYTES_MAX <= RECOVERY_BYTES_MAX, (
    "one publication must be recoverable"
)
assert RECOVERY_BYTES_MAX <= PAGE_BYTES_MAX, "a page must be able to fill one recovery"
assert PRESENCE_LEASE_S >= 3 * PRESENCE_RENEW_S, "two lost renewals are no death"
assert TOOL_LEASE_S >= 3 * TOOL_RENEW_S, "two lost registrations are no death"
assert 2 * ROUTING_WORD_BYTES_MAX > CHANNEL_CHARS_MAX, "ordinary names are not hashed"
