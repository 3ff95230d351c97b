"""From stored sessions to Stable Alignment adapters, and back into the society."""
