"""Which API generation, v1 or v2, a request on a path that both share is meant for, by its headers (§3.1).

References with § are to kafka-rest-http.md, corrected where kafka-rest-http-observed.md says that the live proxy does
something else.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from kafka_gateway.errors import BadRequest
from kafka_gateway.media import JSON, KAFKA, OCTETS, V1, V2, Produces, vendor_parts
from kafka_gateway.media_ranges import MediaRange, parse_accept, parse_content_type


def generation(media_type: str) -> str | None:
    """The generation that a media type selects: "v1", "v2" or None (§3.1).

    The generic ``application/vnd.kafka+json`` and ``application/json`` select v1.
    """
    if media_type in (KAFKA, JSON):
        return "v1"
    version = vendor_parts(media_type)[1]
    return version if version in ("v1", "v2") else None


def generation_hint(method: str, accept: str | None, content_type: str | None) -> str | None:
    """The generation that the headers ask for on a path that v1 and v2 share; None if they say nothing (§3.1).

    Requests with a body are told by ``Content-Type`` first, the others by ``Accept`` first. In ``Accept`` the range
    with the highest ``q`` that says anything decides. A body of ``application/octet-stream`` is v1's if nothing else
    says more: only older proxies take it (§3.2).

    Raises:
        BadRequest: as :func:`parse_accept`.
    """
    by_accept = None
    kind = _content_type(content_type)
    by_type = generation(kind)
    if by_type is not None and method in _WITH_BODY:
        return by_type
    if accept:
        for media_range, _ in sorted((each for each in parse_accept(accept) if each.q > 0), key=_by_weight):
            by_accept = generation(str(media_range))
            if by_accept is not None:
                break
    return by_accept or by_type or ("v1" if kind == OCTETS and method in _WITH_BODY else None)


def can_mean(own: str, produces: Produces | None, accept: str | None, content_type: str | None) -> bool:
    """Whether a request for an object of the generation ``own`` can be meant for it (§3.1).

    Many clients send one ``Accept`` with every request (``application/json, text/plain, */*``), which tells what they
    can read and not which API they speak. So a request is the other generation's only if its ``Content-Type`` is one
    of that one's versioned types, with a body or without, or if it names one in ``Accept`` and accepts nothing that
    ``own`` would answer. One that accepts generic types alone, and none of
    what ``own`` answers, is told so by its own generation (406): the other one could only say that there is no such
    instance.

    Args:
        produces: what ``own`` answers this request with.

    Raises:
        BadRequest: as :func:`parse_accept`.
    """
    body_version = vendor_parts(_content_type(content_type))[1]
    if body_version:
        return body_version == own
    if not accept:
        return True
    ranges = [each.media_type for each in parse_accept(accept) if each.q > 0]
    if produces is None or any(each.covers(kind) for each in ranges for kind, _ in produces.weighted):
        return True
    versions = {vendor_parts(str(each))[1] for each in ranges}
    return versions <= {"", own}


def _content_type(header: str | None) -> str:
    """The media type of a body; "" for none and for one that cannot be read, which is refused or ignored later."""
    if header is None:
        return ""
    try:
        return parse_content_type(header)
    except BadRequest:
        return ""


def classify(method: str, accept: str | None, content_type: str | None, default: str, enabled: Collection[str]) -> str:
    """The generation that serves a request on a path which the ``enabled`` generations share (§3.1).

    A hint at a generation that is not enabled is no hint: ``application/json`` with v2 alone is v2's 406.
    """
    if len(enabled) == 1:
        return next(iter(enabled))
    hint = generation_hint(method, accept, content_type)
    if hint in enabled:
        return str(hint)
    return default if default in enabled else min(enabled)


_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


def _by_weight(media_range: MediaRange) -> float:
    return -media_range.q


# --- errors before a resource was chosen -----------------------------------------------------------------------------

V1_PREFERRED: Final = (V1, KAFKA, JSON)
CURRENT_PREFERRED: Final = (JSON, V2)


def error_media_type(
    accept: str | None,
    status: int,
    generation: str,
    preferred: Collection[str] | None = None,
    default: str | None = None,
) -> str:
    """The media type of an error raised before a resource and its response type were chosen (§3.3). Never raises.

    v1: the client's first range that is literally one of ``preferred``, else ``default``. Later generations do that for
    415 alone and answer 404, 405 and 406 as ``application/json`` (observed §3.3).

    Args:
        preferred: ``response.mediatype.preferred``; None for the generation's own default.
        default: ``response.mediatype.default``; likewise.
    """
    if generation != "v1" and status != 415:
        return JSON
    if preferred is None:
        preferred = V1_PREFERRED if generation == "v1" else CURRENT_PREFERRED
    if default is None:
        default = V1 if generation == "v1" else JSON
    try:
        ranges = parse_accept(accept or "")
    except BadRequest:
        return default
    return next((str(kind) for kind, _ in sorted(ranges, key=_by_weight) if str(kind) in preferred), default)
