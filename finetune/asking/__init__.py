"""Many questions to a model: concurrent, within a budget, and none asked twice after a crash."""
