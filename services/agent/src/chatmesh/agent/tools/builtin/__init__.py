"""Tools that are there from the first minute, served by a worker of their own."""
