"""What a configuration key is: its type, its bounds, and what may be printed of its value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

KeyType = Literal["str", "int", "long", "float", "bool", "list", "secret", "duration", "size", "enum", "file"]
Value = str | int | float | bool | tuple[str, ...]
_INT_MAX = 2**31 - 1
_LONG_MAX = 2**63 - 1
_DURATION_MAX_MS = 100 * 365 * 24 * 3600 * 1000
"""A hundred years. uvloop cuts timers there, and locks of threads refuse more than some 290."""
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})")
_SECRET_NAME = re.compile(
    r"password|passwd|secret|credential|token|jaas|userinfo|user\.info|private|api\.?key"
    r"|key\.pem|keystore\.key|oauthbearer\.config|assertion",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(?<=://)[^/@\s]*@")
_HIDDEN = "[hidden]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKey:
    """One property: its name, how its text is read, its default and what it means.

    ``name`` may hold ``<name>`` for one part of the user's choice (``transport.<name>.enable``). With ``prefix`` the
    name ends with a dot and stands for every property below it; such properties are plain text.

    ``minimum`` and ``maximum`` are inclusive and bound numbers; without them an ``int`` has 32 bits, a ``long`` and a
    ``size`` (bytes) have 64, a ``duration`` (whole milliseconds) is at most 100 years; the last two are not negative.
    ``choices`` are the words of an ``enum``; ``hint`` follows the message about a faulty value. With ``optional`` an
    empty text means the default. ``per_listener`` allows ``listener.name.<name>.`` before the name.

    ``ignored`` says why a property that is accepted has no effect; it is told once at start. ``refused`` says what to
    do instead of any other value than the default: for what may protect somebody, so that ignoring it would be a hole.

    A ``live`` key takes effect when the configuration is read again (SIGHUP); all others when the gateway starts.

    ``judges`` is asked about each property below a prefix, with the rest of its name and its text: what is wrong with
    it, or "".

    For keys of programs that the gateway replaces: ``reads`` turns their spelling of a value into ours (ValueError if
    it is none), ``variables`` are their environment variables, of which the first that is set counts, and ``implies``
    is asked once all properties are known, if this one is set or one below it: it gets the texts of all and answers
    which others follow, each with its text and the property that it follows from. What follows beats what is given.

    The shipped file has ``example`` in place of the default, commented out like it, and ``shipped`` as a line in force.
    """

    name: str
    type: KeyType = "str"
    default: Value = ""
    doc: str
    unit: str = ""
    section: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    prefix: bool = False
    per_listener: bool = False
    optional: bool = False
    hint: str = ""
    ignored: str = ""
    refused: str = ""
    example: str = ""
    shipped: str = ""
    judges: Callable[[str, str], str] | None = None
    reads: Callable[[str], str] | None = None
    variables: tuple[str, ...] = ()
    implies: Callable[[Mapping[str, str]], Mapping[str, tuple[str, str]]] | None = None
    live: bool = False
    owner: str = "the gateway"

    def bounds(self) -> tuple[float | None, float | None]:
        """The least and the greatest number allowed; None where there is no bound."""
        low, high = self.minimum, self.maximum
        if self.type == "int":
            low, high = -(2**31) if low is None else low, _INT_MAX if high is None else high
        elif self.type in ("long", "duration", "size"):
            least = -(2**63) if self.type == "long" else 0
            most = _DURATION_MAX_MS if self.type == "duration" else _LONG_MAX
            low, high = least if low is None else low, most if high is None else high
        return low, high

    def read(self, text: str) -> Value:
        """The value of the text.

        Raises:
            ValueError: with a message for the operator that names no value of a secret.
        """
        text = text.strip()
        if self.optional and not text:
            return self.default
        if self.reads is not None:
            text = self.reads(text)
        match self.type:
            case "bool":
                if text.lower() not in ("true", "false"):
                    raise ValueError(f"{self._shown(text)} is not true or false")
                return text.lower() == "true"
            case "int" | "long" | "duration" | "size":
                if not _WHOLE.fullmatch(text):
                    what = f"number of {self.unit}" if self.unit else "number"
                    raise ValueError(f"{self._shown(text)} is not a whole {what}")
                return self._bounded(int(text))
            case "float":
                if not _DECIMAL.fullmatch(text):
                    raise ValueError(f"{self._shown(text)} is not a number")
                return self._bounded(float(text))
            case "list":
                return tuple(item for item in (part.strip() for part in text.split(",")) if item)
            case "enum":
                by_word = {choice.lower(): choice for choice in self.choices}
                if text.lower() not in by_word:
                    raise ValueError(f"{self._shown(text)} is not one of {', '.join(self.choices)}")
                return by_word[text.lower()]
            case "file":
                if text:
                    check_readable(text)
                return text
            case _:
                return text

    def write(self, value: Value) -> str:
        """The text that `read` turns into the value."""
        if isinstance(value, bool):
            return "true" if value else "false"
        return ",".join(value) if isinstance(value, tuple) else str(value)

    def _bounded(self, number: float) -> int | float:
        low, high = self.bounds()
        if (low is not None and number < low) or (high is not None and number > high):
            raise ValueError(f"{number} is outside {_range(low, high)}")
        return number

    def _shown(self, text: str) -> str:
        return repr(redact(self.name, text)[:80])


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the configuration: where it stands, which property, what to do, perhaps the name meant."""

    place: str
    key: str
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        subject = f"{self.place}: " if self.place else ""
        if self.key:
            subject += f"{self.key}: "
        meant = f" (did you mean {self.suggestion}?)" if self.suggestion else ""
        return f"{subject}{self.message}{meant}"


class ConfigError(Exception):
    """The configuration cannot be used; ``faults`` holds everything that is wrong with it, not the first thing only."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


def section(title: str, *keys: ConfigKey, live: bool = False) -> tuple[ConfigKey, ...]:
    """The keys as one section of the reference; with ``live`` all of them take effect on SIGHUP."""
    return tuple(replace(key, section=title, live=key.live or live) for key in keys)


def redact(name: str, text: str, key: ConfigKey | None = None) -> str:
    """The text of a property as it may be printed: hidden where key or name say that it is a secret, and URLs without
    their user and password."""
    # Where a secret stands may be told: what "...location" names is never the secret itself.
    hidden = _SECRET_NAME.search(name) and not name.endswith((".location", ".url"))
    if text and (hidden or (key is not None and key.type == "secret")):
        return _HIDDEN
    return _USERINFO.sub(f"{_HIDDEN}@", text)


PYTHON_TYPES: Mapping[KeyType, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "long": (int,),
    "duration": (int,),
    "size": (int,),
    "float": (int, float),
    "list": (tuple,),
}


def check_readable(path: str) -> None:
    """Opens the file and closes it again.

    Raises:
        ValueError: with a message for the operator. A PEM text given in place of a file is not repeated, it is a key.
    """
    shown = "a text" if "-----" in path or "\n" in path else path[:200]
    try:
        with open(path, "rb"):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not the name of a file"
        raise ValueError(f"{shown} cannot be read: {reason}") from None


def _range(low: float | None, high: float | None) -> str:
    if high is None:
        return f"{low} and above"
    return f"{low} to {high}"


def as_text(value: object) -> str:
    """A value of any type as a properties file has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    return str(value)
