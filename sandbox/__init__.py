"""The society: rules, engine, models and store. Knows nothing of HTTP, terminals or training."""
