"""Rules that allow, deny or ask a person about each tool call."""
