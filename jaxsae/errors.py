"""The one error a user is meant to read."""

import errno


class InputError(ValueError):
    """Bad usage or bad input: the message names the thing, the value and the fix.

    `jaxsae` prints it without a traceback and leaves with exit status 2.
    """


class Preempted(Exception):
    """The process was asked to stop (SIGTERM): what was done is saved, and the same command goes on from there.

    `jaxsae` leaves with exit status 75 (EX_TEMPFAIL), which says "resume me".
    """

    status = 75
    in_good_order = True


class MembersFailed(Exception):
    """Some members of a sweep failed, and all others are done; what was done is on disk."""

    status = 1
    in_good_order = True


class CheckFailed(Exception):
    """A kernel of this machine gave a wrong result, or a check did not come to its end; all findings were told."""

    status = 1
    in_good_order = True


class DiskFullError(InputError):
    """A write that failed because the file system is full; what was on disk stays usable."""


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, from any library, says that the disk is full."""
    text = str(error)
    return getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text or "RESOURCE_EXHAUSTED" in text


def reraise_if_disk_full(error: Exception, path: str) -> None:
    """Raises `DiskFullError` where `error`, from any library, says that the disk is full."""
    if is_disk_full(error):
        raise DiskFullError(
            f"{path}: the disk is full. What was complete is kept; free some space and run the same command again."
        ) from error
