"""Replies of a connection itself, ready to be written: there is no request, or none that is still at work."""

from __future__ import annotations

_WAITED_BODY = (
    b'{"error_code":408,"message":"The client has closed its sending side, and no record has come since: keep the '
    b'connection open both ways (nc without -N) to wait for longer."}'
)
WAITED = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_WAITED_BODY), _WAITED_BODY)
)
_TOO_MANY_BODY = b'{"error_code":503,"message":"The gateway has connections.max open connections."}'
TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_TOO_MANY_BODY), _TOO_MANY_BODY)
)
