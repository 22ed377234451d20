"""Models: what turns a name or a folder into a model and its tokenizer, and what a model says of itself."""
