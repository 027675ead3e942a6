"""A dictionary in the place of a model's activations, or its latents changed in them, while a `with` lasts.

    with jaxsae.hooks.splice(model, sae):
        logits = model(ids).logits

`model`: one of transformers' models in torch, any other torch module, the GPT in the box, or any flax nnx module. Contexts
nest, the outer's change first where they meet; what they changed is taken back at their end, also by an error.
"""

from jaxsae.hooks.api import ablate, read, splice, steer

__all__ = ["ablate", "read", "splice", "steer"]
