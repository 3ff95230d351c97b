"""The terminal app: watch, join, rate and replay societies. A client of the server, and nothing more."""
