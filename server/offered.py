"""The commands that this package adds to ``sandbox``: where each is, and its short help. Imports nothing."""

COMMANDS = {
    "serve": ("server.cli:serve", "Serve live societies: REST, websocket, /v1."),
    "keys": ("server.cli:keys", "Make, list and revoke the keys to the server."),
}
