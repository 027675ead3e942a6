"""Eight simulated CPU devices for every test, set before JAX starts; figures that tests show and compare."""

import fcntl
import json
import os
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

RECORDED = Path(__file__).parent / "recorded.json"
GROWTH = 1.1


@pytest.fixture
def show(record_property):
    """show(line): the line stands in the summary after the tests, whatever process they ran in."""
    return lambda line: record_property("shown", line)


@pytest.fixture
def recorded(show):
    """recorded(name, value): fails where `value` is over 1.1 times what `recorded.json` has for this jax.

    Where it has nothing the summary says so. JAXSAE_RECORD=1 writes the values down instead.
    """
    import jax

    def compare(name: str, value: float) -> None:
        if os.environ.get("JAXSAE_RECORD") == "1":
            with RECORDED.open("a+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # tests run in several processes
                file.seek(0)
                figures = json.loads(file.read() or "{}")
                figures.setdefault(jax.__version__, {})[name] = value
                file.truncate(0)
                file.write(json.dumps(figures, indent=2, sort_keys=True) + "\n")
            return
        before = json.loads(RECORDED.read_text()).get(jax.__version__, {}).get(name)
        if before is None:
            show(f"{name}: {value:,.0f}, nothing recorded for jax {jax.__version__}")
        else:
            assert value <= GROWTH * before, f"{name} grew from {before:,.0f} to {value:,.0f} (JAXSAE_RECORD=1 accepts)"

    return compare


def pytest_terminal_summary(terminalreporter):
    """Prints what tests showed."""
    reports = [r for group in terminalreporter.stats.values() for r in group if getattr(r, "when", "") == "call"]
    shown = [text for r in reports for name, text in r.user_properties if name == "shown"]
    if shown:
        terminalreporter.section("figures")
        for text in shown:
            terminalreporter.write_line(text)
