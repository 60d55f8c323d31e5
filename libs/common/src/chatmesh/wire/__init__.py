"""What processes say to each other and to clients: names, messages, limits, codes.

A *client command* arrives at a gateway (`client`); what has to be durable leaves it as a
`PublishCommand` (`messages`) for the partition of its channel (`topics`), and comes back
as a `LogEvent` that every gateway with a subscriber hears. Numbers with a meaning
live in `limits`, refusals in `errors`, goodbyes in `close_codes`.

Nothing here knows a socket, a broker or a clock.
"""
