"""`jaxsae check`: runs the checks, prints the table, and says what to keep away from."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxsae.check import show
from jaxsae.check.config import CheckConfig
from jaxsae.check.findings import Findings
from jaxsae.check.session import Session
from jaxsae.config import to_dict
from jaxsae.errors import CheckFailed, InputError
from jaxsae.files import check_writable
from jaxsae.kernels.avoid import check_names
from jaxsae.version import __version__

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def check(config: CheckConfig) -> dict[str, Any]:
    """Runs the checks, prints the table and returns what the JSON file holds.

    Raises:
      InputError: a file that cannot be written, `only` that no check's name holds, JAXSAE_AVOID with an unknown kernel.
      CheckFailed: a kernel was wrong, a check failed, or there was no time to compare anything.
      SystemExit: it was ended by a signal; the table of what was found by then was printed.
    """
    if config.json:
        check_writable("json", config.json)
    check_names()
    config = config.seeded()
    findings = Findings(config.json, {"jaxsae": __version__, "flags": to_dict(config)})
    session, ended = Session(config, findings), False
    try:
        with _signals_end_it():
            session.run()
        ended = True
    finally:
        findings.save("complete" if ended and not findings.cut else "cut")
        if not ended:
            print("\n".join(show.report(findings)))
    _refuse_unknown(config.only, session, findings)
    print("\n".join(show.report(findings)))
    if findings.unwritten:
        raise InputError(
            f"--json={config.json}: could not be written ({findings.unwritten}); the table holds what was found."
        )
    if findings.bad:
        raise CheckFailed(show.advice(findings))
    if findings.cut and not findings.judged and {"kernels", "training"} & set(config.parts):
        raise CheckFailed(f"--minutes={config.minutes:g}: the time was over before anything was compared. Give more.")
    return findings.as_dict()


def _refuse_unknown(only: str, session: Session, findings: Findings) -> None:
    """Raises `InputError` where all that there is was asked, and no name holds `only`."""
    names = session.names[1:]  # after that of the machine, which is always looked at
    if not findings.cut and not findings.bad and not any(only in name for name in names):
        raise InputError(f"--only={only}: no check's name holds that; there are {', '.join(names)}.")


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """A signal that would end this process leaves as SystemExit instead, so that its worker ends, too."""

    def leave(number: int, frame: Any) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
