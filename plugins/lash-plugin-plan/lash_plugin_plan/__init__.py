"""Plan mode: a model that looks before it acts, and a plan that it keeps."""
