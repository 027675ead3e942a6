"""Sites of every family of the installed transformers that can be built small: exact, refused or wrong.

    python tests/studies/site_families.py [MODEL_TYPE ...]

Each has random weights; `resid_pre`, `attn_out`, `mlp_in`, `mlp_out` and `resid_post` of block 1 are compared with hooks
of its own (`tests/lm/families.py`). Exit status 1 where one is wrong.
"""

import collections
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "lm"))

import families

if __name__ == "__main__":
    wrong, count = 0, collections.Counter()
    for name, causal in families.families():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        found = families.trial_of(name, causal)
        if "" in found:
            count["not built"] += 1
            print(f"{name}: not built ({found['']})", flush=True)
            continue
        verdicts = {verdict.partition(":")[0] for verdict in found.values()}
        count["wrong" if "wrong" in verdicts else "refused in part" if "refused" in verdicts else "exact"] += 1
        print(f"{name}: " + ", ".join(f"{site} {verdict}" for site, verdict in found.items()), flush=True)
    print(", ".join(f"{kind} {n}" for kind, n in count.items()))
    sys.exit(count["wrong"] > 0)
