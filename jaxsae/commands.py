"""The commands there are: for each its one line of help, its flags and its function, imported when asked for."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of `jaxsae`: `module` holds the configuration class and the function that takes it.

    `joins`: it runs in several processes; any other command is refused where a scheduler starts it several times.
    `implied`: {flag of the command: function of the module}. Where that flag is given, the function takes the flags that
    were given, {name: value}, and returns those that follow from them; it may read files and use JAX.
    """

    help: str
    module: str
    config: str
    function: str
    joins: bool = False
    implied: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def load(self) -> tuple[type, Callable[[Any], Any]]:
        """The configuration class and the function."""
        module = importlib.import_module(self.module)
        return getattr(module, self.config), getattr(module, self.function)

    def implies(self, given: dict[str, Any]) -> bool:
        """Whether flags that were `given` decide others."""
        return any(given.get(flag) for flag in self.implied)

    def implied_flags(self, given: dict[str, Any]) -> dict[str, Any]:
        """The flags that follow from those `given`, {name: value}."""
        module, found = importlib.import_module(self.module), {}
        for flag, function in self.implied.items():
            if given.get(flag):
                found |= getattr(module, function)(given)
        return found


COMMANDS = {
    "quickstart": Command(
        "everything, from the model in the box to a report", "jaxsae.quickstart", "QuickstartConfig", "quickstart"
    ),
    "harvest": Command(
        "a model's activations, or arrays, into a store", "jaxsae.harvest", "HarvestConfig", "harvest", True
    ),
    "train": Command(
        "fit a dictionary to a store, or resume a run",
        "jaxsae.training",
        "TrainConfig",
        "train",
        True,
        {
            "source_run": "source_flags",
            "initialize_from": "initial_flags",
            "writes": "writes_flags",
            "finetune": "finetune_flags",
        },
    ),
    "evaluate": Command(
        "judge a dictionary: JSON files under RUN/eval", "jaxsae.evaluate", "EvaluateConfig", "evaluate"
    ),
    "export": Command("write a run as another tool's files", "jaxsae.exchange", "ExportConfig", "export"),
    "import": Command("read another tool's files as a run", "jaxsae.exchange", "ImportConfig", "import_"),
    "report": Command("draw a run or a sweep as one HTML file", "jaxsae.report", "ReportConfig", "report"),
    "benchmark": Command(
        "time a train step against its encoder matmul, or judge methods by a known dictionary",
        "jaxsae.benchmark",
        "BenchmarkConfig",
        "benchmark",
    ),
    "check": Command(
        "are the kernels right, and how fast, on this machine's devices", "jaxsae.check", "CheckConfig", "check"
    ),
    "plan": Command(
        "memory, traffic and time of a step on devices you do not have", "jaxsae.plan", "PlanConfig", "plan"
    ),
    "faults": Command(
        "kill and damage runs on purpose, and see that they come out whole", "jaxsae.faults", "FaultsConfig", "faults"
    ),
    "sweep": Command(
        "train a grid of members, resume it, and fit the scaling laws", "jaxsae.sweep", "SweepConfig", "sweep", True
    ),
    "inspect": Command("what is in a store, a run or an export", "jaxsae.inspect", "InspectConfig", "inspect"),
    "train_lm": Command("train the Othello GPT of the box", "jaxsae.lm.train", "TrainLMConfig", "train"),
}
