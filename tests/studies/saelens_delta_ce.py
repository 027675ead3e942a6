"""Delta CE of an exported dictionary with transformers and SAELens alone, nothing of jaxsae: a check on `evaluate`.

    python tests/studies/saelens_delta_ce.py MODEL EXPORT STORIES.jsonl FIRST:END LAYER CONTEXT

The SAE stands in after block LAYER at every position but BOS; stories are packed end to end behind BOS tokens.
"""

import json
import sys

import torch

sys.modules.setdefault("torchvision", None)  # one built for another torch breaks these imports


def packed(tokenizer, stories: list[str], context: int) -> list[list[int]]:
    """Sequences of at most `context` tokens, BOS first: the stories end to end, each behind a BOS."""
    bos, sequences = tokenizer.bos_token_id, [[]]
    for story in stories:
        for token in [bos, *tokenizer(story, add_special_tokens=False)["input_ids"]]:
            if len(sequences[-1]) == context:
                sequences.append([bos])
            if token != bos or sequences[-1] != [bos]:  # a story that begins a sequence has its BOS
                sequences[-1].append(token)
    return sequences


@torch.no_grad()
def delta_ce(model_dir: str, export: str, stories: list[str], layer: int, context: int) -> tuple[float, float]:
    """CE of the model, and what the SAE adds to it, in nats a token of text."""
    from sae_lens import SAE
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, sae = AutoTokenizer.from_pretrained(model_dir), SAE.load_from_disk(export)
    model = AutoModelForCausalLM.from_pretrained(model_dir).eval()
    bos = tokenizer.bos_token_id

    def splice(_, args, output):
        x = output[0] if isinstance(output, tuple) else output
        new = torch.where((ids == bos)[..., None], x, sae.decode(sae.encode(x)))
        return (new, *output[1:]) if isinstance(output, tuple) else new

    def loss() -> float:
        logits, targets = model(ids).logits[0, :-1].log_softmax(-1), ids[0, 1:]
        return float(-logits[range(len(targets)), targets][targets != bos].double().sum())

    plain = spliced = count = 0
    for sequence in packed(tokenizer, stories, context):
        ids = torch.tensor([sequence])
        plain, count = plain + loss(), count + int((ids[0, 1:] != bos).sum())
        hook = model.model.layers[layer].register_forward_hook(splice)
        spliced += loss()
        hook.remove()
    return plain / count, (spliced - plain) / count


if __name__ == "__main__":
    model_dir, export, path, documents, layer, context = sys.argv[1:]
    with open(path) as file:
        stories = [json.loads(line)["text"] for line in file][slice(*map(int, documents.split(":")))]
    print("ce {:.6f}  delta_ce {:.6f}".format(*delta_ce(model_dir, export, stories, int(layer), int(context))))
