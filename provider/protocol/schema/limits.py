"""How large a schema may be. Each limit is far above real use and well below harm."""

MAX_TEXT = 1_000_000
"""Characters of the schema's JSON text."""
MAX_PATTERN = 4_000
"""Characters of one pattern."""
MAX_REQUIRED_LENGTH = 20_000
"""minLength: characters that an answer must have in one string."""
MAX_REQUIRED_ITEMS = 10_000
"""minItems and minProperties: members that an answer must have."""
MAX_RULES = 60_000
"""Symbols of the grammar."""
MAX_EFFORT = 400_000
"""Steps spent on telling sets of values apart; about a second."""
MAX_GRAMMAR = 2_000_000
"""Characters of the grammar."""
LIGHT_GRAMMAR = 250_000
"""Characters of several schemas' grammar from which on it is tried before it is used."""
MAX_OPTIONAL = 600
"""Optional properties of one object, optional places of one array: llguidance follows each of them
at once and gives up at 2,000."""
MAX_OPEN = 2_000
"""Properties of all alternatives of one object together: they are followed side by side."""
