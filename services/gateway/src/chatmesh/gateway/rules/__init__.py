"""What each command means, as functions on where a session stands."""
