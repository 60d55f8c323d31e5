"""Tools over the bus: what is offered, what was called, who allowed it, what came back."""
