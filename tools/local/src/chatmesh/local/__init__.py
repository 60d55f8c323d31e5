"""A whole chatmesh on one machine: database, broker, services, and their ends.

Used by `make run`, the tests, the demo, the benchmarks and the chaos scenarios, so that
all of them start and stop the same things in the same way.
"""
