"""Questions, prior memories and society files that come with the program."""
