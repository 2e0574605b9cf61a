"""Which subjects of the schema registry a principal may use (security.md §3).

A subject that is named after a topic is the topic's: who may write the topic may register schemas there, who may
describe it may look at them. Any other name a client makes up (``subject``, or the name of its record), and needs a
right of its own: ``subject:NAME``. Without that a writer of one topic could register what all others have to fit.

What is registered stays, whatever becomes of the request, and later schemas have to be compatible with it. So a request
is judged first, with drafts (`draft_writer`): rights, schemas, data, and what Kafka would refuse; then its schemas are
`registered`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Final

from kafka_gateway.rights import EVERYTHING, Rights
from kafka_gateway.schemas import SchemaChoice, Schemas, Writer

_SUFFIXES: Final = ("-key", "-value")
_FULL_NAME: Final = re.compile(r"[A-Za-z0-9_.]+")


def topic_of(subject: str) -> str:
    """The topic that the subject is named after; "" for none."""
    for suffix in _SUFFIXES:
        if subject.endswith(suffix):
            return subject.removesuffix(suffix)
    return ""


def may_see(rights: Rights, subject: str) -> bool:
    """Whether the subject may be shown."""
    if rights is EVERYTHING:
        return True
    topic = topic_of(subject)
    return bool(
        (topic and rights.filter("describe", "topic", [topic])) or rights.filter("describe", "subject", [subject])
    )


def check_subject(rights: Rights, choice: SchemaChoice, subject: str) -> None:
    """NotAuthorized if the schema that is chosen stands under a subject that the principal may not use.

    Whoever gives the schema itself may register it, and must be allowed to ``write`` there. The caller has judged the
    topic of the choice already.
    """
    if rights is EVERYTHING or subject == f"{choice.topic}-{choice.part}":
        return
    operation = "describe" if choice.text is None else "write"
    topic = topic_of(subject)
    if topic and rights.allows(operation, "topic", topic):
        return
    # TOPIC_RECORD_NAME. A record may be called anything, but not so that another topic's subject comes out.
    if not topic and subject.startswith(f"{choice.topic}-") and _FULL_NAME.fullmatch(subject, len(choice.topic) + 1):
        return
    rights.require(operation, "subject", subject)


def known_writer(schemas: Schemas, choice: SchemaChoice, rights: Rights) -> Writer | None:
    """`Schemas.known`, for a principal with these rights; NotAuthorized as `check_subject`."""
    writer = schemas.known(choice)
    if writer is not None:
        check_subject(rights, choice, writer.subject)
    return writer


async def draft_writer(schemas: Schemas, choice: SchemaChoice, rights: Rights) -> Writer:
    """`Schemas.draft`, for a principal with these rights; NotAuthorized as `check_subject`."""
    if rights is not EVERYTHING:
        check_subject(rights, choice, await schemas.subject(choice))
    return await schemas.draft(choice)


def is_open(choice: SchemaChoice, writer: Writer) -> bool:
    """Whether the writer is a draft: nothing may be stored with it, and its schema may have to be registered."""
    return choice.registers and not writer.schema_id


async def registered(schemas: Schemas, drafts: Sequence[tuple[SchemaChoice, Writer]]) -> list[Writer]:
    """The writers of one request, after its data were judged with these: all of them can be stored with.

    A schema is registered only here. Raises as `Schemas.resolve`; of several that are new none is registered if the
    registry says before that it would refuse one.
    """
    new = [choice for choice, writer in drafts if is_open(choice, writer)]
    if len(new) > 1:
        for choice in new:
            await schemas.resolve(dataclasses.replace(choice, registers=False))
    return [await schemas.resolve(choice) if is_open(choice, writer) else writer for choice, writer in drafts]
