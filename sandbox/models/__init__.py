"""The models that seats speak through: one protocol, four families, chosen by a spec string."""
