"""What the first 1, 2, ... transcoders of a circuit-tracer export cost a Llama, with torch and transformers alone, nothing of
jaxsae: a check on `evaluate --run=SET --suite=splice`.

    python tests/studies/compounding_by_transformers.py MODEL EXPORT STORIES.jsonl FIRST:END CONTEXT

Weights come from `layer_N.safetensors`, equations are those below. Each transcoder stands in the place of its MLP at every
position but BOS; stories are packed end to end behind BOS tokens.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from saelens_delta_ce import packed
from safetensors.torch import load_file

StandIns = dict[int, Callable[[torch.Tensor], torch.Tensor]]  # {layer: what the MLP reads -> what it writes}


def transcoders(export: str) -> StandIns:
    """Those of a circuit-tracer export: y = W_dec^T z + b_dec (+ W_skip x), z = W_enc x + b_enc where above the threshold."""

    def made(w: dict[str, torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        threshold = w.get("activation_function.threshold", torch.zeros(()))

        def written(x: torch.Tensor) -> torch.Tensor:
            pre = x @ w["W_enc"].T + w["b_enc"]
            y = torch.where(pre > threshold, pre, 0) @ w["W_dec"] + w["b_dec"]
            return y + x @ w["W_skip"].T if "W_skip" in w else y

        return written

    files = sorted(Path(export).glob("layer_*.safetensors"), key=lambda file: int(file.stem.partition("_")[2]))
    return {int(file.stem.partition("_")[2]): made(load_file(file)) for file in files}


@torch.no_grad()
def added(
    model_dir: str, stories: list[str], context: int, variants: Sequence[StandIns]
) -> tuple[float, list[tuple[float, float]]]:
    """CE of the model, and what each of `variants` adds to it with KL(model || spliced), in nats a token of text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = (auto.from_pretrained(model_dir) for auto in (AutoTokenizer, AutoModelForCausalLM))
    model.eval()
    bos = tokenizer.bos_token_id
    plain, count, sums = 0.0, 0, torch.zeros(len(variants), 2, dtype=torch.float64)
    for sequence in packed(tokenizer, stories, context):
        ids = torch.tensor([sequence])
        asked, kept = ids[0, 1:] != bos, (ids != bos)[..., None]
        log = lambda ids=ids, asked=asked: model(ids).logits[0, :-1][asked].double().log_softmax(-1)
        targets = ids[0, 1:][asked]
        p = log()
        ce = -p[range(len(targets)), targets].sum()
        plain, count = plain + float(ce), count + len(targets)
        for i, stand_ins in enumerate(variants):
            hooks = []
            for layer, written in stand_ins.items():
                hook = lambda _, args, output, f=written, kept=kept: torch.where(kept, f(args[0]), output)
                hooks.append(model.model.layers[layer].mlp.register_forward_hook(hook))
            q = log()
            for hook in hooks:
                hook.remove()
            sums[i, 0] += -q[range(len(targets)), targets].sum() - ce
            sums[i, 1] += (p.exp() * (p - q)).sum()
    return plain / count, [tuple(row) for row in (sums / count).tolist()]


def first_ones(stand_ins: StandIns) -> list[StandIns]:
    """The first 1, 2, ... of them, by layer."""
    layers = sorted(stand_ins)
    return [{layer: stand_ins[layer] for layer in layers[: i + 1]} for i in range(len(layers))]


if __name__ == "__main__":
    model_dir, export, path, documents, context = sys.argv[1:]
    with open(path) as file:
        stories = [json.loads(line)["text"] for line in file][slice(*map(int, documents.split(":")))]
    ce, found = added(model_dir, stories, int(context), first_ones(transcoders(export)))
    print(f"ce {ce:.6f}")
    for number, (extra, kl) in enumerate(found, 1):
        print(f"{number} MLPs replaced: delta_ce {extra:.6f}  kl {kl:.6f}")
