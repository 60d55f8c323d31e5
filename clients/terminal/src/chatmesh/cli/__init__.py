"""chatmesh on the command line: chat in a room, make tokens, look after dead letters.

Each command is a module with one function, `add_to`, that adds its arguments and names
the function that runs it; `__main__` lists the modules.
"""
