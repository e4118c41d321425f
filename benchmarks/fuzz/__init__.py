"""Wrong, broken and hostile input for the commands, and commands that are killed: what comes of it, counted."""
