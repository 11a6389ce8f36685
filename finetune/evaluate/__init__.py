"""How good a model is beside another: labelled conversations, scores, an interval, a verdict."""
