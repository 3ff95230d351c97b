"""The live server: sessions over REST and websockets, people in seats, and an OpenAI-compatible API."""
