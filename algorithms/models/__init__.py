"""Models: turning a name or a folder into a model and its tokenizer, and what a model reports about itself."""
