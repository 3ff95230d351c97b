"""The commands that this package adds to ``sandbox``: where each is, and its short help. Imports nothing."""

COMMANDS = {
    "play": ("tui.cli:play", "A server, a society and the app, in one."),
    "watch": ("tui.cli:watch", "Watch a live server in the terminal."),
}
