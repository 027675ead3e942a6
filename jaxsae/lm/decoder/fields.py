"""The fields of a config.json, each of which is read, known to change nothing, or refused by its name."""

from collections.abc import Mapping
from typing import Any

from jaxsae.errors import InputError

# Of training, generation, the library itself: nothing that a forward pass of a finished model computes.
_INERT = {
    "_attn_implementation", "_name_or_path", "architectures", "attention_dropout", "attn_pdrop", "bos_token_id",
    "cache_implementation", "chunk_size_feed_forward", "classifier_dropout", "dtype", "embd_pdrop", "eos_token_id",
    "finetuning_task", "hidden_dropout", "id2label", "initializer_range", "keys_to_ignore_at_inference", "label2id",
    "layer_norm_type_vocab_size", "max_window_layers", "model_type", "n_ctx", "output_attentions",
    "output_hidden_states", "pad_token_id", "prefix", "pretraining_tp", "problem_type", "reorder_and_upcast_attn",
    "resid_pdrop", "return_dict", "sep_token_id", "summary_activation", "summary_first_dropout",
    "summary_proj_to_labels", "summary_type", "summary_use_proj", "task_specific_params", "tokenizer_class",
    "torch_dtype", "transformers_version", "transformers_weights", "unsloth_version", "use_cache",
    "use_sliding_window",
}  # fmt: skip


class Fields:
    """A configuration whose fields are taken one by one; what is left over at the end has to be of no consequence.

    Args:
      values: {name: value}. defaults: those of the configuration's class. model: it, for messages.
    """

    def __init__(self, values: Mapping[str, Any], defaults: Mapping[str, Any], model: str):
        self._values, self._defaults, self._model = dict(values), dict(defaults), model
        self._left = set(self._values) - _INERT

    def take(self, name: str, default: Any = None) -> Any:
        """A field's value; `default` where there is none, or None stands there."""
        self._left.discard(name)
        value = self._values.get(name)
        return default if value is None else value

    def must_be(self, name: str, *allowed: Any) -> None:
        """Raises `InputError` where a field that there is has another value than `allowed`."""
        value = self.take(name)
        if value is not None and value not in allowed:
            raise self.refusal(name, value)

    def refusal(self, name: str, value: Any) -> InputError:
        """Names a field that the decoder does not implement."""
        return InputError(
            f"--model={self._model}: {name}={value!r} in its config.json is not implemented by --backend=jax. "
            "Take --backend=torch."
        )

    def finish(self) -> None:
        """Raises `InputError` for a field that nothing has taken, unless it is what the class has by default, or says False
        to what the class has no word for."""
        for name in sorted(self._left):
            value = self._values[name]
            off = value is None or (value is False and name not in self._defaults)
            if not off and value != self._defaults.get(name):
                raise self.refusal(name, value)
