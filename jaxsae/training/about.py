"""What a checkpoint says of where its dictionary comes from."""

from typing import Any

from jaxsae.paths import absolute
from jaxsae.training.run import checkpoint_metadata
from jaxsae.training.setup import Setup
from jaxsae.training.taken import beside_of

# Of a store's, those a dictionary keeps.
KEPT_SETTINGS = ("source", "text", "directions", "first_position", "last_position", "prepend_bos")


def metadata_of(setup: Setup) -> dict[str, Any]:
    """What checkpoints say of where the dictionary comes from."""
    attributes = setup.store.metadata(setup.sites[0])
    settings = attributes.get("settings", {})
    about = {
        "store": absolute(setup.config.store_url, new=True),
        "site": setup.site,
        "fingerprint": attributes.get("fingerprint", ""),
        "store_rows": setup.rows,
        "holdout_rows": setup.holdout,
        "model": attributes.get("model", ""),
        "tokenizer": attributes.get("tokenizer", ""),
        "context": attributes.get("context", 0),
        "normalize": setup.config.normalize,
        "seed": setup.config.seed,
        "tokens": setup.config.steps * setup.config.batch_size,
    }
    if setup.config.source_run:
        about |= {"source_run": absolute(setup.config.source_run), "source_step": settings.get("step")}
    if setup.through:
        effect = setup.through.effect
        about["end_to_end"] = {"kl": effect.kl, "own_weight": effect.own, "later_weight": effect.later_weight}
        about["end_to_end"] |= {"later": list(effect.later), "attribution": effect.attribution}
    if setup.config.first_tokens is not None:
        about["first_tokens"] = setup.config.first_tokens
    about |= setup.program.defaults | {name: settings[name] for name in KEPT_SETTINGS if name in settings}
    if len(setup.sites) > 1:
        about |= {"reads": list(setup.reads), "writes": list(setup.writes)} | beside_of(setup.store)
    return checkpoint_metadata(setup.config.method, setup.widths, setup.config.ema_decay, about)
