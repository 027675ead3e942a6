"""One worker has a member, whatever happens to the others."""

import json
import os
import subprocess
import threading
import time

import pytest

from jaxsae.sweep.claims import Claims


@pytest.fixture
def workers(tmp_path):
    """workers(n, lease=60) -> n workers of one sweep."""
    made = []

    def make(count: int = 2, lease: float = 60.0) -> list[Claims]:
        made.extend(Claims(tmp_path, lease).__enter__() for _ in range(count))
        return made[-count:]

    yield make
    for claims in made:
        claims.__exit__(None, None, None)


def as_of(claims: Claims, member: str, **changes) -> None:
    """Rewrites a claim as one that another worker made."""
    path = claims._file(member, claims._held[member])
    path.write_text(json.dumps(claims.me | changes))


def test_of_many_workers_one_gets_a_member(workers):
    many = workers(8)
    won, start = [], threading.Barrier(len(many))

    def take(claims: Claims) -> None:
        start.wait()
        for number in range(20):
            if claims.take(f"member{number}"):
                won.append((number, claims))

    threads = [threading.Thread(target=take, args=(c,)) for c in many]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(number for number, _ in won) == list(range(20))
    assert all(c.holds(f"member{number}") for number, c in won)


def test_what_was_released_is_free_and_names_that_begin_alike_are_apart(workers):
    one, other = workers()
    assert one.take("rate0") and one.take("rate0.1")
    assert not other.take("rate0") and other.holder("rate0.1") == one.me["worker"]
    one.release("rate0")
    assert other.take("rate0") and other.holds("rate0") and not one.holds("rate0") and one.holds("rate0.1")


def test_a_member_of_a_process_that_is_gone_is_taken_over_at_once(workers):
    lost, other = workers()
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert lost.take("m")
    as_of(lost, "m", pid=gone.pid)
    assert other.holder("m") is None and other.take("m")
    assert other.holds("m") and not lost.holds("m")


def test_a_number_that_another_process_has_now_does_not_keep_a_claim_alive(workers):
    lost, other = workers()
    assert lost.take("m")
    as_of(lost, "m", pid=os.getppid(), born="0")
    assert other.take("m")


def test_a_worker_elsewhere_is_lost_when_it_is_silent_for_its_lease(workers):
    far, other = workers(lease=0.9)  # a sign of life every 0.15 s
    assert far.take("m")
    as_of(far, "m", host="elsewhere")
    deadline = time.monotonic() + 1.8
    while time.monotonic() < deadline:
        assert not other.take("m")  # twice the lease, and alive
        time.sleep(0.05)
    far._stop.set()
    far._thread.join()
    began = time.monotonic()
    while not other.take("m"):
        assert time.monotonic() - began < 10
        time.sleep(0.05)
    assert time.monotonic() - began > 0.6 and not far.holds("m")


def test_a_claim_that_was_cut_short_is_waited_for_and_then_taken(workers):
    far, other = workers(lease=0.3)
    assert far.take("m")
    far._file("m", 1).write_text("")
    assert not other.take("m")
    time.sleep(0.5)
    assert other.take("m")
