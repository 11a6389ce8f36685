"""The contract: what an app may rely on, written once on the official SDK.

Every test runs for each target (a provider behind a face) through the sync and the async client.
`python -m tests.contract` runs it and prints the matrix.
"""
