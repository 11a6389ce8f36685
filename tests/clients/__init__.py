"""Other people's clients against the running server, for both providers behind it.

`python -m tests.clients` sets up their environment (.venv-clients, node_modules), serves the local
provider and the `openai` provider over the stand-in, runs every client against both and prints a
count per client.
"""
