"""Files for models: read, write, edit, find and search, confined to folders that the user names."""
