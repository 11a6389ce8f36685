"""Regular languages: ECMA-262 patterns and string formats, Boolean algebra, grammar terminals."""
