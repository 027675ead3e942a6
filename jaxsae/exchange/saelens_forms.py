"""SAELens' files: their names, and the tensors of each architecture."""

from jaxsae.dictionary import SKIP
from jaxsae.exchange.weights import Form

WEIGHTS, CONFIG, SPARSITY = "sae_weights.safetensors", "cfg.json", "sparsity.safetensors"
SCALER = "activation_scaler.json"  # of a checkpoint, whose weights are of scaled activations
FILES = frozenset({WEIGHTS, CONFIG, SPARSITY})
SCHEMA_VERSION = "6.54.12"  # the SAELens whose reading of these files is tested; below 6 means another schema
METHODS = {"topk": "topk", "abstopk": "abstopk", "gated": "gated", "standard": "relu"}
METHODS |= dict.fromkeys(("transcoder", "skip_transcoder"), "relu")
METHODS |= {"batchtopk": "batchtopk", "matryoshka_batchtopk": "matryoshka"}
TRAINED_AS = {"batchtopk": "batchtopk", "matryoshka": "matryoshka_batchtopk", "jumprelu": "jumprelu"}
TRAINED_AS["jumprelu_tanh"] = "jumprelu"
BY_NORM = ("topk", "abstopk", "batchtopk", "matryoshka_batchtopk")  # which may choose by z_i ||W_dec,i||
RUNNING = "topk_threshold"  # the running threshold of a checkpoint of the last two
_DECODER: Form = {"W_dec": ("W_dec", "nd"), "b_dec": ("b_dec", "d")}
_WRITTEN: Form = {"W_dec": ("W_dec", "no"), "b_dec": ("b_dec", "o")}
_PAST: Form = {SKIP: (SKIP, "od")}
_PLAIN: Form = {"W_enc": ("W_enc", "dn"), "b_enc": ("b_enc", "n")} | _DECODER
_THRESHOLD: Form = {"threshold": ("threshold", "n")}
_MAGNITUDES: Form = {"r_mag": ("r_mag", "n"), "b_mag": ("b_mag", "n")}
FORMS: dict[str, Form] = {  # by SAELens' architecture
    "topk": _PLAIN,
    "abstopk": _PLAIN,
    "jumprelu": _PLAIN | _THRESHOLD,
    "gated": {"W_enc": ("W_enc", "dn"), "b_gate": ("b_enc", "n")} | _MAGNITUDES | _DECODER,
    "standard": _PLAIN,
    "transcoder": _PLAIN | _WRITTEN,
    "skip_transcoder": _PLAIN | _WRITTEN | _PAST,
    "jumprelu_transcoder": _PLAIN | _WRITTEN | _THRESHOLD,
    "jumprelu_skip_transcoder": _PLAIN | _WRITTEN | _THRESHOLD | _PAST,
    # Of checkpoints of a training alone; what is saved at its end is a jumprelu.
    "batchtopk": _PLAIN | {RUNNING: (RUNNING, "")},
    "matryoshka_batchtopk": _PLAIN | {RUNNING: (RUNNING, "")},
}
