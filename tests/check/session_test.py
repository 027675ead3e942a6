"""Checks that hang, run out of time or never begin, by workers that follow a script."""

import time

from jaxsae.check import CheckConfig
from jaxsae.check.child import Clock
from jaxsae.check.findings import Findings
from jaxsae.check.session import Session

SHARED = {"part": "kernels", "implementation": "xla", "shapes": {"k": 8}, "interpreted": False}


class Scripted:
    """Stands for a worker: what it says, and how it ends."""

    def __init__(self, said, status=0):
        self.said, self.process = said, self
        self.poll = lambda: status

    def __call__(self, spec, environment):
        self.left = [m for m in self.said if m.get("begin") not in spec["done"] and m.get("of") not in spec["done"]]
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def messages(self, clock):
        for message in self.left:
            if message == {"hang": True}:
                while clock.left() > 0:
                    time.sleep(0.01)
                return
            yield message

    def ended(self):
        return "it did not end in its time"

    def last_words(self):
        return ""


def session(tmp_path, said, seconds=60.0, most=0.2, status=0):
    found = Findings(str(tmp_path / "found.json"), {"flags": {"seed": 0}})
    made = Session(CheckConfig(parts=("kernels",), seed=0), found, Scripted(said, status))
    made.clock = Clock(seconds, most)
    return made, found


def passed(name):
    outcome = {"status": "passed", "error": 0.0, "bound": 0.0, "message": "", "figures": {}}
    return {"finding": SHARED | {"name": name, "seconds": 0.1} | outcome, "of": name}


def test_a_check_that_hangs_is_named_and_the_next_one_begins(tmp_path):
    said = [
        {"plan": ["a", "b"], "there_are": ["a", "b"]},
        {"begin": "a", "about": SHARED},
        {"hang": True},
        {"begin": "b", "about": SHARED},
        passed("b"),
    ]
    made, found = session(tmp_path, said, status=None)

    class FirstHangs(Scripted):
        def __call__(self, spec, environment):
            self.said = said if not spec["done"] else [{"plan": ["b"], "there_are": ["b"]}, *said[3:]]
            return super().__call__(spec, environment)

    made.start = FirstHangs(said, None)
    made._group({"group": "kernels"})
    assert [(f["name"], f["status"]) for f in found.all] == [("a", "failed"), ("b", "passed")]
    assert "did not end" in found.all[0]["message"] and not found.not_reached


def test_of_a_kernel_that_hangs_nothing_else_is_tried(tmp_path):
    plan = ["encode xla k 1", "encode xla k 8", "decode xla_pairs"]
    said = [{"plan": plan, "there_are": plan}, {"begin": plan[0], "about": SHARED}, {"hang": True}]
    made, found = session(tmp_path, said, status=None)

    class FirstHangs(Scripted):
        def __call__(self, spec, environment):
            rest = [{"plan": plan[2:], "there_are": plan}, {"begin": plan[2], "about": SHARED}, passed(plan[2])]
            self.said = rest if spec["done"] else said
            return super().__call__(spec, environment)

    made.start = FirstHangs(said, None)
    made._group({"group": "kernels"})
    assert [f["status"] for f in found.all] == ["failed", "skipped", "passed"] and found.all[1]["message"].endswith(
        "hung"
    )


def test_a_time_that_is_over_cuts_the_check_at_hand_and_names_the_rest(tmp_path):
    said = [
        {"plan": ["a", "b", "c"], "there_are": ["a", "b", "c"]},
        {"begin": "a", "about": SHARED},
        passed("a"),
        {"begin": "b", "about": SHARED},
        {"hang": True},
    ]
    made, found = session(tmp_path, said, seconds=0.3, most=60.0)
    made._group({"group": "kernels"})
    assert [(f["name"], f["status"]) for f in found.all] == [("a", "passed"), ("b", "cut")]
    assert found.not_reached == ["c"] and not found.bad and found.cut


def test_a_process_that_never_begins_is_a_failure_and_is_not_started_for_ever(tmp_path):
    made, found = session(tmp_path, [], status=1)
    made._group({"group": "kernels"})
    assert [f["status"] for f in found.all] == ["failed"] and "no check began" in found.all[0]["name"]
    assert found.not_reached == ["kernels"]
