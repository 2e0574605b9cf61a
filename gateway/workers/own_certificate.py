"""Whether other nodes would let this one in with its certificate: asked before anybody else has to refuse it.

The two contexts of this node meet each other in memory, as two nodes do over a network. So OpenSSL judges here what it
would judge there: the authority, the time, and what the certificate may be used for, at both ends.
"""

from __future__ import annotations

import ssl
from typing import Final

from kafka_gateway.workers.certificate_names import names_host, told_names

_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED, and what follows: openssl/x509_vfy.h
_NOT_YET: Final = 9
_WRONG_PURPOSE: Final = 26
_HELP: Final = {
    _EXPIRED: "has expired, or its authority has: make a new one",
    _NOT_YET: "is not valid yet: look at the clock of this machine",
    _WRONG_PURPOSE: "may not be used for both ends of a connection: its extendedKeyUsage, if it has one, needs"
    " serverAuth and clientAuth",
}


class WrongCertificate(ValueError):
    """Other nodes would refuse it. The message says why and what to do, and begins with a verb."""


def judge(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> float:
    """When the certificate ends, as time.time(). ``client`` asks for no name; ``host`` is the one that the certificate
    has to name, "" for none.

    Raises WrongCertificate, or ssl.SSLError where the two cannot meet for another reason. Takes some milliseconds.
    """
    try:
        shown = _meet(server, client)
    except ssl.SSLCertVerificationError as error:
        raise WrongCertificate(_HELP.get(error.verify_code) or _not_signed(error.verify_message)) from None
    if host and not names_host(shown, host):
        raise WrongCertificate(
            f"names {told_names(shown) or 'no host'} and not {host}, as which other nodes reach this one: name the host"
            " of cluster.peer.advertised in its subjectAltName, or advertise what it names"
        )
    return float(ssl.cert_time_to_seconds(str(shown["notAfter"])))


def _not_signed(reason: str) -> str:
    return f"is not signed by an authority of cluster.peer.tls.ca: take the authority that all nodes believe ({reason})"


def _meet(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, object]:
    """What the client was shown, when each has judged the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    while waiting:
        for each in list(waiting):
            try:
                each.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(each)
    return dict(ends[0].getpeercert() or {})
