"""What a language model takes beside the step: its shape from a config.json alone, and the figures of its harvest."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsae.config import check
from jaxsae.errors import InputError
from jaxsae.lm import libraries
from jaxsae.plan.chips import Chip
from jaxsae.plan.config import PlanConfig
from jaxsae.plan.roofline import Part

if TYPE_CHECKING:
    from jaxsae.lm.decoder.shape import Decoder

LONGEST = 1024  # tokens of a sequence, unless --context says otherwise; as in `harvest`


def shape_at(config: PlanConfig) -> "Decoder":
    """The shape of the model at `config.model`, a directory in which config.json is enough.

    Raises:
      InputError: no such directory or file, or a model that `harvest --backend=jax` does not implement.
    """
    from jaxsae.lm.decoder.families import shape_of

    directory = Path(config.model)
    if not (directory / "config.json").is_file():
        raise InputError(
            f"--model={config.model}: no config.json in it. Give a model's directory, or one with that alone."
        )
    try:
        found = libraries.import_transformers().AutoConfig.from_pretrained(directory)
    except InputError:
        raise
    except Exception as error:  # the library raises a dozen kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"--model={config.model}: its config.json cannot be read ({reason}).") from None
    return shape_of(found, config.model)


def check_reading(config: PlanConfig, shape: "Decoder") -> None:
    """Raises `InputError` where the model has no such site, or takes no sequence as long."""
    from jaxsae.lm.decoder.lm import check_sites

    check_sites(shape, sites_of(config, shape))
    fix = f"the model takes at most {shape.context} tokens"
    check(context_of(config, shape) <= shape.context, "context", config.context, fix)


def sites_of(config: PlanConfig, shape: "Decoder") -> tuple[str, ...]:
    """The sites that are read."""
    return config.sites or (f"resid_post.{(len(shape.layers) - 1) // 2}",)


def context_of(config: PlanConfig, shape: "Decoder") -> int:
    """Tokens of a sequence."""
    return config.context or min(shape.context, LONGEST)


def model_figures(config: PlanConfig, chip: Chip, devices: int, compiled: dict[str, Any]) -> dict[str, Any]:
    """The figures of a forward pass as `--json` writes them, from what `compile_reading` returned; of one device."""
    # A weight is read once in a pass. Scores are left out: a fused attention would not write them.
    parts = {
        "products": Part(compiled["product_flops"], compiled["weights"] + compiled["activations"]),
        "attention": Part(compiled["attention_flops"]),
        "collectives": Part(links=sum(compiled["moved"].values())),
    }
    dtype = "float32" if config.model_dtype == "float32" else "bfloat16"
    bounds = {name: part.bound(chip, dtype, devices) for name, part in parts.items()}
    seconds, tokens = sum(s for s, _ in bounds.values()), config.sequences * compiled["context"]
    peak = compiled["weights"] + compiled["activations"] + compiled["workspace"]
    same = ("sites", "context", "compiled_length", "blocks", "compile_seconds")
    return {name: compiled[name] for name in same} | {
        "weights_bytes": compiled["weights"],
        "activations_bytes": compiled["activations"],
        "workspace_bytes": compiled["workspace"],
        "peak_bytes": peak,
        "fits": peak <= chip.memory and not compiled["refused_by_compiler"],
        "collective_bytes": {kind: round(moved) for kind, moved in compiled["moved"].items()},
        "flops": compiled["product_flops"] + compiled["attention_flops"],
        "roofline_seconds": {name: s for name, (s, _) in bounds.items()},
        "bound_by": {name: limit for name, (_, limit) in bounds.items()},
        "tokens": tokens,
        "forward_seconds_at_least": seconds,
        "tokens_per_second_at_most": tokens / seconds,
    }


def together(step: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Both on the same devices: all that stands of either, and the larger workspace, since passes and steps take turns."""
    stands = step["peak_bytes"] - step["workspace_bytes"] + model["peak_bytes"] - model["workspace_bytes"]
    peak = stands + max(step["workspace_bytes"], model["workspace_bytes"])
    return {"peak_bytes": peak, "fits": peak <= step["memory_bytes"] and step["fits"] and model["fits"]}
