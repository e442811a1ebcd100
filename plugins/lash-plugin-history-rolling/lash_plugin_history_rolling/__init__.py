"""Rolling history: old attachments out, and a summary in place of what was said long ago."""
