"""Everything of the gateway that touches a network or a disk."""
