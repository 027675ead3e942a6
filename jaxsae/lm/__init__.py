"""Small language models that ship with the project: the Othello GPT, its games and its training."""
