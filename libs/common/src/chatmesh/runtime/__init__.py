"""How any process of ours lives: settings, start, health, tasks, logs, stop.

Nothing here knows chat, a broker or a database. A module enters when any asyncio
service at all would want it.
"""
