"""Speed and memory of a whole mesh on one machine, load included. `make bench`."""
