"""What is in an export, in a screen."""

from pathlib import Path

from jaxsae.exchange import (
    circuit_tracer,
    contexts,
    dictionary_learning,
    gemma_scope,
    neuronpedia,
    plain,
    saelens,
    saelens_record,
    sparsify,
)
from jaxsae.exchange.files import read_json, read_safetensors, safetensors_shapes


def describe_export(path: str | Path) -> str | None:
    """Names the format, sizes, dtype and files of the export at `path`, reading headers and thresholds alone.

    Returns:
      Lines of text, of each export where `path` is a folder of them; None where no format is recognised.

    Raises:
      InputError: a format is recognised but its settings or weights are damaged.
    """
    path = Path(path)
    if not path.is_dir():
        return None
    if text := _described(path):
        return text
    return "\n\n".join(filter(None, map(_described, sorted(p for p in path.iterdir() if p.is_dir())))) or None


def _described(path: Path) -> str | None:
    if saelens.is_here(path):
        return _lines("SAELens", path, _saelens(path))
    if sparsify.is_here(path):
        folders = sparsify.hookpoints(path) or [path]
        return "\n\n".join(_lines("sparsify", folder, _sparsify(folder)) for folder in folders)
    if circuit_tracer.is_here(path):
        return _lines("circuit-tracer", path, circuit_tracer.facts(path))
    if gemma_scope.is_here(path):
        return _lines("Gemma Scope", path, gemma_scope.facts(path))
    if plain.is_here(path):
        return _lines("safetensors", path, plain.facts(path))
    if dictionary_learning.is_here(path):
        return _lines("dictionary_learning", path, _dictionary_learning(path))
    if neuronpedia.is_here(path):
        return _lines("Neuronpedia", path, neuronpedia.facts(path))
    if contexts.is_here(path):
        return _lines("contexts", path, contexts.facts(path))
    return None


def _saelens(path: Path) -> dict[str, object]:
    settings = read_json(path / saelens.CONFIG)
    told = settings.get("metadata") or {}
    return {
        "architecture": settings.get("architecture"),
        "trained as": saelens_record.trained_as(settings),
        "latents": settings.get("d_sae"),
        "d_model": settings.get("d_in"),
        "k": saelens_record.recorded_k(settings),
        "target L0": saelens_record.recorded_l0(settings),
        "threshold": _threshold(path / saelens.WEIGHTS),
        "dtype": _dtype(path / saelens.WEIGHTS),
        "model": told.get("model_name"),
        "site": told.get("hook_name"),
    }


def _sparsify(path: Path) -> dict[str, object]:
    settings = read_json(path / sparsify.CONFIG)
    shapes = safetensors_shapes(path / sparsify.WEIGHTS)
    latents, d_model = shapes.get("encoder.weight", ([None, None], ""))[0]
    return {
        "architecture": settings.get("activation", "topk"),
        "latents": latents,
        "d_model": d_model,
        "k": settings.get("k"),
        "dtype": _dtype(path / sparsify.WEIGHTS),
        "model": (settings.get("jaxsae") or {}).get("model"),
        "site": path.name,
    }


def _dictionary_learning(path: Path) -> dict[str, object]:
    trainer = read_json(path / dictionary_learning.CONFIG).get("trainer") or {}
    return {
        "architecture": trainer.get("dict_class"),
        "latents": trainer.get("dict_size"),
        "d_model": trainer.get("activation_dim"),
        "k": trainer.get("k"),
        "target L0": trainer.get("target_l0"),
        "dtype": None,  # only torch opens ae.pt
        "model": trainer.get("lm_name"),
        "site": trainer.get("submodule_name"),
    }


def _threshold(path: Path) -> str | None:
    """The threshold of a jumprelu's latents, or from where to where theirs lie."""
    if "threshold" not in safetensors_shapes(path):
        return None
    threshold = read_safetensors(path, ["threshold"])["threshold"]
    if saelens.has_one_threshold(threshold):
        return f"{threshold.flat[0]:.6g}"
    return f"{threshold.min():.6g} to {threshold.max():.6g}"


def _dtype(path: Path) -> str:
    names = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}
    return ", ".join(sorted({names.get(dtype, dtype) for _, dtype in safetensors_shapes(path).values()}))


def _lines(title: str, path: Path, facts: dict[str, object]) -> str:
    lines = [f"{'export':<13} {path}", f"{'format':<13} {title}"]
    for name, value in facts.items():
        if value not in (None, ""):
            lines.append(f"{name:<13} {value:,}" if isinstance(value, int) else f"{name:<13} {value}")
    for file in sorted(p for p in path.iterdir() if p.is_file()):
        lines.append(f"{'file':<13} {file.name}  {_size(file.stat().st_size)}")
    return "\n".join(lines)


def _size(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} bytes"
