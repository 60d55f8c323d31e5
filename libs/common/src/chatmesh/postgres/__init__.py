"""How a service keeps something in PostgreSQL: connections, migrations, leases.

A module enters when it is about PostgreSQL and two services need it. It knows no table
that only one service has.
"""
