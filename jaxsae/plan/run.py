"""`jaxsae plan`: the figures, on the screen and as JSON."""

import dataclasses
from typing import Any

import jax

from jaxsae.config import to_dict
from jaxsae.dictionary import check_switches, make_method
from jaxsae.errors import InputError
from jaxsae.files import check_writable, write_json
from jaxsae.plan import show, show_model
from jaxsae.plan.compiled import compile_step
from jaxsae.plan.config import PlanConfig
from jaxsae.plan.model import check_reading, model_figures, shape_at, together
from jaxsae.plan.reading import compile_reading
from jaxsae.plan.roofline import DEAD_SHARE, FLOAT, Sizes, affordable, auxiliary, parts
from jaxsae.plan.topology import Topology
from jaxsae.training.ways import AUX_SCOPE, FULL_SCOPE, PLAIN_SCOPE

FUSED = ("pallas_tpu", "mosaic_gpu", "approximate")  # encoders whose pre-activations never reach the device's memory


def plan(config: PlanConfig) -> dict[str, Any]:
    """Compiles the trainer's step, and a model's harvest, for `config.topology`; prints and returns what they take.

    Raises:
      InputError: an unknown topology, a compiler that is not installed, sizes that do not divide over the mesh,
        a file for the figures that cannot be written, a model that `harvest --backend=jax` does not implement.
    """
    figures = figures_of_flags(config)
    print("\n".join(show.lines(figures) + (show_model.lines(figures) if "model" in figures else [])))
    if config.json:
        write_json(config.json, figures)
    return figures


def figures_of_flags(config: PlanConfig) -> dict[str, Any]:
    """The figures of a step, and of a model, as `--json` writes them; compiles them, and raises as `plan` does."""
    topology = Topology.of(config.topology)
    _check(config, topology)
    topology.check_plugin()
    if not config.model:
        return figures_of(config, topology, compile_step(config))
    shape = shape_at(config)
    check_reading(config, shape)
    config = dataclasses.replace(config, d_model=config.d_model or shape.d_model)
    model = model_figures(config, topology.chip, topology.count, compile_reading(config))
    figures = figures_of(config, topology, compile_step(config))
    return figures | {"model": model, "together": together(figures, model)}


def _check(config: PlanConfig, topology: Topology) -> None:
    """All that can be told without the compiler."""
    check_switches(config.method)
    given, count = ",".join(map(str, config.mesh)), topology.count
    if config.mesh and (len(config.mesh) != 2 or min(config.mesh) < 1 or config.mesh[0] * config.mesh[1] != count):
        raise InputError(
            f"--mesh={given}: {topology} has {count} devices: give two numbers whose product is {count}, DATA,MODEL, "
            f"such as --mesh=1,{count}"
        )
    data, model = config.mesh or (1, count)
    width = config.method.width
    if width % model:
        fix = f"take a width that is a multiple of {model}, such as {-(-width // model) * model}"
        raise InputError(f"--width={width} does not divide over the {model} shards of --mesh={data},{model}: {fix}")
    if config.batch_size % data:
        fix = f"take a multiple of {data}, such as {-(-config.batch_size // data) * data}"
        raise InputError(f"--batch_size={config.batch_size} does not divide over {data} data shards: {fix}")
    if config.json:
        check_writable("json", config.json)


def figures_of(config: PlanConfig, topology: Topology, compiled: dict[str, Any]) -> dict[str, Any]:
    """The figures as `--json` writes them, from what `compile_step` returned. Bytes and seconds of one device."""
    chip, (data, model) = topology.chip, compiled["mesh"]
    memory = compiled["memory"]
    workspace = max(0, compiled["temporaries"] - memory["gradients"])
    peak = sum(memory.values()) + workspace
    method, sizes = make_method(config.method), _sizes(config, compiled)
    moved, with_aux = ({}, {})
    for one in compiled["collectives"]:
        if one["scope"] not in (AUX_SCOPE, FULL_SCOPE):
            moved[one["kind"]] = moved.get(one["kind"], 0) + one["moved"]
        if one["scope"] not in (PLAIN_SCOPE, FULL_SCOPE):
            with_aux[one["kind"]] = with_aux.get(one["kind"], 0) + one["moved"]
    bounds = {
        name: part.bound(chip, config.compute_dtype, data * model)
        for name, part in parts(sizes, sum(moved.values())).items()
    }
    seconds = sum(s for s, _ in bounds.values())
    figures = {
        "flags": to_dict(config),
        "jax": jax.__version__,
        "topology": str(topology),
        "chip": chip.name,
        "device_kind": compiled["device_kind"],
        "devices": data * model,
        "devices_per_chip": chip.halves,
        "mesh": [data, model],
        "compile_seconds": compiled["compile_seconds"],
        **{f"{name}_bytes": value for name, value in memory.items()},
        "workspace_bytes": workspace,
        "peak_bytes": peak,
        "memory_bytes": chip.memory,
        "fits": peak <= chip.memory and not compiled["refused_by_compiler"],
        "forms_gradient": compiled["forms_gradient"],
        "largest_temporary": compiled["largest"],
        "largest_batch_temporary": compiled["largest_of_batch"],
        "batch_by_latents_bytes": sizes.rows * sizes.latents * FLOAT,
        "collective_bytes": {kind: round(value) for kind, value in moved.items()},
        "collective_bytes_with_aux": {kind: round(value) for kind, value in with_aux.items()},
        "collectives_counted": all(one["counted"] for one in compiled["collectives"]),
        "roofline_seconds": {name: s for name, (s, _) in bounds.items()},
        "bound_by": {name: limit for name, (_, limit) in bounds.items()},
        "step_seconds_at_least": seconds,
        "tokens_per_second_at_most": config.batch_size / seconds,
        "selection_hidden": sizes.fused if sizes.pairs is not None else None,
        "vector_operations_affordable": affordable(chip, sizes),
        "encoders": [{"k": k, "name": name, "refused": why} for k, name, why in compiled["encoders"]],
        "custom_kernels": compiled["custom_kernels"],
        "alternatives": compiled["alternatives"],
    }
    if method.has_aux:
        extra = sum(with_aux.values()) - sum(moved.values())
        part = auxiliary(sizes, max(0.0, extra), model)
        figures["auxiliary_dead_fraction"] = DEAD_SHARE
        figures["auxiliary_seconds"], figures["auxiliary_bound_by"] = part.bound(
            chip, config.compute_dtype, data * model
        )
    return figures


def _fused(compiled: dict[str, Any]) -> bool:
    """Whether the pre-activations that are ranked stay within a kernel."""
    return any(name in FUSED for _, name, _ in compiled["encoders"])


def _sizes(config: PlanConfig, compiled: dict[str, Any]) -> Sizes:
    data, model = compiled["mesh"]
    rows, memory = config.batch_size // data, compiled["memory"]
    dense = not make_method(config.method).ranks
    return Sizes(
        rows=rows,
        batch=config.batch_size,
        latents=config.method.width // model,
        d=config.d_model,
        pairs=None if dense else rows * config.method.k / model,
        state=memory["parameters"] + memory["moments"],
        data=data,
        forms_gradient=compiled["forms_gradient"],
        compute=2 if config.compute_dtype == "bfloat16" else FLOAT,
        dtype=config.compute_dtype,
        fused=_fused(compiled),
    )
