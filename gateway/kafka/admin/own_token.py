"""The gateway's own token for SASL/OAUTHBEARER, where it speaks to the brokers itself (RFC 6749 §4.4).

librdkafka fetches its tokens by ``sasl.oauthbearer.method=oidc`` and has no way to read them. So one more token is
fetched here with the same properties, for the few questions that no client of librdkafka can ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from kafka_gateway.wire.sasl import SaslRefused

_FETCH_S: Final = 10.0
_ANSWER_MAX: Final = 256 * 1024
_SPARE: Final = 0.8
"""The part of its life for which a token is used, as in librdkafka."""
_LIFE_S: Final = 300.0
"""Of a token whose endpoint does not say."""


class OwnToken:
    """Belongs to the event loop. No text of an error, and no line of the log, tells secret or token."""

    def __init__(self, properties: Mapping[str, str]) -> None:
        """``properties``: librdkafka's ``sasl.oauthbearer.*`` and ``https.ca.*``. OSError: a file cannot be read."""
        self._url = properties.get("sasl.oauthbearer.token.endpoint.url", "")
        self._id = properties.get("sasl.oauthbearer.client.id", "")
        self._secret = properties.get("sasl.oauthbearer.client.secret", "")
        self._scope = properties.get("sasl.oauthbearer.scope", "")
        authority, text = properties.get("https.ca.location"), properties.get("https.ca.pem")
        self._tls = ssl.create_default_context(cafile=authority or None, cadata=text or None)
        self._token = ""
        self._until = 0.0
        self._fetching = asyncio.Lock()

    @staticmethod
    def is_possible(properties: Mapping[str, str]) -> bool:
        """Whether these properties tell all that is needed: no clouds' own ways, and no signed assertions."""
        return bool(
            properties.get("sasl.oauthbearer.token.endpoint.url")
            and properties.get("sasl.oauthbearer.client.id")
            and properties.get("sasl.oauthbearer.grant.type", "client_credentials") == "client_credentials"
            and properties.get("sasl.oauthbearer.metadata.authentication.type", "none") == "none"
        )

    def token(self) -> str:
        """The newest one; "" before the first ``renew``."""
        return self._token

    async def renew(self) -> None:
        """Fetches a token, if the last one has lived most of its life. SaslRefused: there is none to be had."""
        async with self._fetching:
            if time.monotonic() < self._until:
                return
            answer = await self._fetch()
            token, life = answer.get("access_token"), answer.get("expires_in", _LIFE_S)
            if not isinstance(token, str) or not token.isascii() or not token.isprintable():
                raise SaslRefused("The answer of sasl.oauthbearer.token.endpoint.url has no access_token.")
            with contextlib.suppress(TypeError, ValueError):
                self._until = time.monotonic() + max(0.0, float(life)) * _SPARE
            self._token = token

    async def _fetch(self) -> dict[str, Any]:
        form = {"grant_type": "client_credentials", **({"scope": self._scope} if self._scope else {})}
        login = {"Authorization": aiohttp.encode_basic_auth(self._id, self._secret)}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_FETCH_S)) as http,
                http.post(self._url, data=form, headers=login, ssl=self._tls, allow_redirects=False) as response,
            ):
                text = await response.content.read(_ANSWER_MAX)
                if response.status != 200:
                    raise SaslRefused(
                        f"sasl.oauthbearer.token.endpoint.url answers {response.status}: it gives the gateway no token."
                    )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SaslRefused(
                f"sasl.oauthbearer.token.endpoint.url cannot be asked for a token: {type(error).__name__}"
            ) from None
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise SaslRefused("The answer of sasl.oauthbearer.token.endpoint.url is no JSON object.")
        return answer
