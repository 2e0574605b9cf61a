"""A body that is processed while it arrives, of a principal with a limit of bytes a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from kafka_gateway.limits import TokenBucket


async def slowed(body: AsyncIterator[bytes], bucket: TokenBucket) -> AsyncIterator[bytes]:
    """The pieces of the body, each when its bytes may be produced (security.md §5: streams are slowed, not cut).

    What is not taken stays with the client: nothing more is read from its connection meanwhile.
    """
    async for piece in body:
        if (wait_s := bucket.wait_s(len(piece))) > 0:
            await asyncio.sleep(wait_s)
        yield piece
