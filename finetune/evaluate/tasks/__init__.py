"""Tasks in lm-eval's form that lm-eval does not have."""
