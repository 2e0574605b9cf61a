"""Topic patterns. They never reach Kafka: librdkafka hands them to glibc's ``regcomp``, with Python's lock held.

There a pattern of 19 bytes held the whole process for 14 s and took 3.6 GiB, and a longer one crashed it
(reliability.md §2.2, S2). RE2 compiles within a fixed amount of memory and matches in linear time; the gateway matches
the topic list itself, subscribes to the names, and looks again while such a subscription exists.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import re2  # type: ignore[import-untyped]

from kafka_gateway.errors import Unprocessable
from kafka_gateway.services.common.json_members import shown

_LENGTH_MAX = 1000
_MEMORY_MAX_BYTES = 1 << 18
_SLICE = 500
"""Names matched in one go, about a millisecond; then other requests have their turn."""

_options = re2.Options()
_options.max_mem = _MEMORY_MAX_BYTES
_options.log_errors = False
_options.never_capture = True


class TopicPattern:
    """A regular expression for whole topic names, in RE2's syntax.

    That is Java's, which upstream has, without back references, look-around and possessive quantifiers.
    """

    def __init__(self, text: str) -> None:
        """Unprocessable (422) for an expression that is empty, too long, not one, or too large when compiled."""
        if not text:
            raise Unprocessable("topic_pattern must not be empty.")
        if len(text) > _LENGTH_MAX:
            raise Unprocessable(f"topic_pattern has {len(text)} characters; at most {_LENGTH_MAX} are possible.")
        try:
            self._expression = re2.compile(text, _options)
        except re2.error as error:
            reason = error.args[0] if error.args else error
            told = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
            raise Unprocessable(f"topic_pattern is not a regular expression of RE2's syntax: {shown(told)}") from None
        except UnicodeEncodeError:
            raise Unprocessable("topic_pattern holds a character that has no UTF-8 form.") from None
        self.text = text

    async def matches(self, topics: Sequence[str]) -> list[str]:
        """Those of the topics that the whole pattern fits, in their order."""
        fits = self._expression.fullmatch
        matched = []
        for start in range(0, len(topics), _SLICE):
            if start:
                await asyncio.sleep(0)
            matched += [topic for topic in topics[start : start + _SLICE] if fits(topic)]
        return matched
