"""Training data: reading, checking, dividing, mixing, and making conversations."""
