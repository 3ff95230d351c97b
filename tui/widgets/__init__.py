"""What screens are made of. Thin: what they show is worked out in pure modules."""
