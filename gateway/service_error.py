"""The base of all errors that a client may be told about; they are in :mod:`kafka_gateway.errors`."""

from __future__ import annotations

from typing import ClassVar, Self


class ServiceError(Exception):
    """A request that was refused or failed; the message tells the client what to do about it."""

    status: ClassVar[int] = 500
    error_code: ClassVar[int] = 500
    retriable: ClassVar[bool] = False
    text: ClassVar[str] = "Internal Server Error"
    help: str = "Tell the operator the request_id: the log has the reason under it."
    """The way out, one sentence, beside the message: clients match on texts of the contract (kafka-rest-http.md §3.6).
    Who knows more than the class sets it on the error. A class with a status or a code of its own does not inherit it.
    """

    need: tuple[str, str, str] | None = None
    """Operation, resource and name that were asked for, where it refuses a right: the audit log has it, also where the
    client is told that there is nothing (security.md §3, §7)."""
    audited: bool = False
    """Whether the audit log has it already."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = vars(cls)
        if "help" not in own and ("status" in own or "error_code" in own):
            cls.help = ""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message if message is not None else self.text)

    @property
    def message(self) -> str:
        return str(self.args[0])

    def with_help(self, text: str) -> Self:
        """The same error, which tells this way out."""
        self.help = text
        return self

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Response headers that belong to this error, such as ``Allow`` or ``Retry-After``."""
        return ()
