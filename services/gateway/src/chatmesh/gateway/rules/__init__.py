"""What each command means: functions on a session's `footing`, which all of them share.

- `connect`: who this is, and what the server subscribes it to from the start
- `subscribe`: what clients subscribe to and unsubscribe from
- `grants`: what the server subscribes them to later, and ends, whoever began it
- `refresh`: how long a connection and its subscriptions last
- `publish`, `history`, `presence`, `calls`: what is said and asked

Functions named for an act take a command and say what has to be done; those named for
what has happened hear its outcome. They are tested as a whole, as conversations with a
session: `tests/unit/gateway/test_session.py` and its neighbours.
"""
