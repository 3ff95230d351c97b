"""The commands of ``sandbox``, one module a group; each is imported only when it is called."""
