"""How many schemas are handled, and handled right, beside llguidance alone."""
