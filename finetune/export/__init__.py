"""Merge an adapter into its base, check the result, export it for other runtimes, bundle it."""
