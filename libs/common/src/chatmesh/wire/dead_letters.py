"""Headers of a dead letter: why it died, when, and where it came from."""

from typing import Final

CAUSE: Final = "cause"
DIED_MS: Final = "died-ms"
"""When, in milliseconds since the Unix epoch, by the clock of whoever buried it."""
ORIGIN_EXCHANGE: Final = "origin-exchange"
ORIGIN_ROUTING_KEY: Final = "origin-routing-key"
ORIGIN_QUEUE: Final = "origin-queue"

DELIVERY_COUNT: Final = "x-delivery-count"
"""The broker's own: how often a message of a quorum queue was delivered before."""
BROKER_DEATHS: Final = "x-death"
"""The broker's own: what it says of a message that it dead-lettered itself."""
CAUSE_CHARS_MAX: Final = 500
