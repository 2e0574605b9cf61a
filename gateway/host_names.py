"""Names of hosts that clients of TLS ask for (RFC 6066 §3), and that are none.

Python decodes the name before it asks its listener for the certificate. It refuses a client whose name has a byte that
is not ASCII, and has nobody to whom it could raise why: it calls ``sys.unraisablehook``, once for each such client.
"""

from __future__ import annotations

from typing import Any


def is_of_host_name(unraisable: Any) -> bool:
    """Whether what ``sys.unraisablehook`` is given is of such a name. The listener hears of that client, and tells."""
    error, name = unraisable.exc_value, unraisable.object
    return (
        isinstance(name, bytes)
        and isinstance(error, UnicodeDecodeError)
        and error.encoding == "ascii"
        and error.object == name
    )
