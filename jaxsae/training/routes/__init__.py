"""How a method's loss and gradients are computed: by lists of pairs, by tiles of few latents, or latent by latent."""

from jaxsae.training.routes.choose import (
    DeadRoute,
    Route,
    capacity_for_dead,
    forms_gradient,
    needs_pairs_for_dead,
    route_of,
)
from jaxsae.training.routes.loss import loss_and_gradient, reconstruction, report_of
from jaxsae.training.routes.pairs import requests_of, select

__all__ = [
    "DeadRoute",
    "Route",
    "capacity_for_dead",
    "forms_gradient",
    "loss_and_gradient",
    "needs_pairs_for_dead",
    "reconstruction",
    "report_of",
    "requests_of",
    "route_of",
    "select",
]
