"""The OpenAI-compatible API: societies and their seats as models, for clients that know no better."""
