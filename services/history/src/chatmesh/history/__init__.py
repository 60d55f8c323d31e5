"""The history service: it decides order, keeps the log, and tells everyone."""
