"""What a sink's answer means for a record, and when to try again (bridges.md A3.3)."""

from __future__ import annotations

import dataclasses
import email.utils
import enum
import random
import time
from collections.abc import Callable
from typing import Literal, Protocol

from kafka_gateway.services.bridges.headers import HttpHeaders


class SinkAnswer(Protocol):
    """What became of one POST."""

    @property
    def status(self) -> int:
        """0 if there was no answer; ``text`` says why then."""

    @property
    def text(self) -> str:
        """For people: the reason, or the beginning of what the sink wrote. One line."""

    @property
    def retry_after(self) -> str:
        """The field as the sink sent it."""


class RecordSink(Protocol):
    """Where records are posted to."""

    async def post(self, body: bytes, headers: HttpHeaders) -> SinkAnswer:
        """One attempt. Never raises, but for cancellation, after which the request may have been done."""

    async def aclose(self) -> None:
        """Ends all posting."""


class Outcome(enum.Enum):
    TAKEN = "taken"
    AGAIN = "again"
    """It may succeed later."""
    REFUSED = "refused"
    """The same request would be refused again."""


def outcome(status: int) -> Outcome:
    """The meaning of a status; 0 is for no answer at all.

    Codes below 200 never end a request. Redirects are not followed: their target has not been checked.
    """
    if 200 <= status < 300:
        return Outcome.TAKEN
    if status == 0 or status in (408, 425, 429) or (status >= 500 and status not in (501, 505)):
        return Outcome.AGAIN
    return Outcome.REFUSED


def status_class(status: int) -> str:
    """``2xx`` and the like, for counters; ``none`` for no answer."""
    return f"{status // 100}xx" if status else "none"


FailureAction = Literal["dlq", "block", "stop", "drop"]
"""What happens to a record that is not taken: it goes to the dead letters, it is tried for ever with what is behind it
waiting, the bridge stops before it, it is lost."""


@dataclasses.dataclass(frozen=True, slots=True)
class RetryRules:
    """How often, and how long after the last attempt (A-24 to A-26). Times in seconds."""

    initial_s: float = 2.0
    factor: float = 2.0
    max_s: float = 120.0
    jitter_s: float = 5.0
    max_attempts: int = 10
    on_exhausted: FailureAction = "block"
    on_permanent: FailureAction = "block"

    def delay_s(self, attempt: int, retry_after: str = "", chance: Callable[[], float] = random.random) -> float:
        """How long to wait after this attempt, the first one being 1.

        ``Retry-After`` raises it, up to ``max_s``; the jitter comes on top, so that many bridges do not come at once.
        """
        # With a large factor the power overflows a float.
        exponent = min(attempt - 1, 64)
        delay = min(self.initial_s * self.factor**exponent, self.max_s)
        asked = retry_after_s(retry_after)
        if asked is not None:
            delay = max(delay, min(asked, self.max_s))
        return delay + self.jitter_s * chance()


def retry_after_s(text: str, now: Callable[[], float] = time.time) -> float | None:
    """The seconds of a ``Retry-After`` field, which holds a number of them or a date; None for anything else."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return max(0.0, moment.timestamp() - now())
    except (ValueError, TypeError, OverflowError):
        return None
