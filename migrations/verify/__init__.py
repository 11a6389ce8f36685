"""Is it safe to switch? Checks of one space, and a report that says so or why not."""
