"""The commands ``sandbox dataset``, ``sandbox train`` and ``sandbox adapters``."""
