"""Decoder-only language models as JAX programs, with the weights of Hugging Face directories, over a mesh."""
