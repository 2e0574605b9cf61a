"""Writes ``etc/kafka-rest.properties`` and ``docs/configuration.md`` from the tables of keys.

``python -m kafka_gateway.commands.reference [DIRECTORY]`` writes both below the directory, by default the current one.
A test compares the files with the tables, so that no key is without a description and none is described that does not
exist.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from kafka_gateway.assembly.built_in import built_in_keys
from kafka_gateway.commands.check import EXIT_CODES, EXIT_CONFIGURATION
from kafka_gateway.config import ConfigKey, environment_name
from kafka_gateway.kafka.clients import property_table
from kafka_gateway.settings.properties import escape_key, escape_value

PROPERTIES_PATH = Path("etc/kafka-rest.properties")
PAGE_PATH = Path("docs/configuration.md")

_SAMPLE_NAMES = {"transport": "sse"}
"""What stands for ``<name>`` in sample lines, by the first part of the key; ``one`` for all others."""

_VERSION_1_LINES = ("max.request.size=1048576", "message.max.bytes=1000012", "fetch.message.max.bytes=1048576")
"""What the file of the Atmosphere fork had, commented out (atmosphere-binding.md section 5.2)."""


def properties_file(keys: Iterable[ConfigKey]) -> str:
    """A properties file with every key, commented out at its default, and the few lines that ship in force."""
    lines = [
        "# Configuration of the Kafka Gateway. Every property stands here at its default, commented out; where the",
        "# default is empty, some lines show an example instead. Remove the # to set one.",
        "#",
        "# Stronger than this file are environment variables (idle.timeout.ms: KAFKA_GATEWAY_IDLE_TIMEOUT_MS), and",
        "# stronger than those KEY=VALUE arguments. An unknown property stops the start; see what is wrong with:",
        "#   kafka-gateway --check kafka-rest.properties",
    ]
    for section, members in _sections(keys):
        lines += ["", "", f"#### {section} ####"]
        if section == "Accepted, no effect":
            lines += _ignored_lines(members)
            continue
        for key in members:
            lines += ["", *_wrapped(_sentence(key))]
            lines += [f"{escape_key(key.name)}={escape_value(key.shipped)}" if key.shipped else f"#{sample_line(key)}"]
    lines += [
        "",
        "",
        "#### Kafka client properties without a prefix ####",
        "",
        "# Version 1 took these; they need producer. or consumer. before the name now.",
        *(f"#{line}" for line in _VERSION_1_LINES),
    ]
    return "\n".join(lines) + "\n"


def sample_line(key: ConfigKey) -> str:
    """``name=value`` with the example or else the default of a key; loading it changes nothing or little."""
    if key.prefix:
        return key.name + key.example
    name = key.name.replace("<name>", _SAMPLE_NAMES.get(key.name.partition(".")[0], "one"))
    return f"{escape_key(name)}={escape_value(key.example or key.write(key.default))}"


def configuration_page(keys: Iterable[ConfigKey]) -> str:
    """The page about configuration: the rules, every key, and the properties of the Kafka clients."""
    codes = ", ".join(f"{code} {kind}" for kind, code in EXIT_CODES.items())
    lines = [
        "# Configuration",
        "",
        "<!-- Written by python -m kafka_gateway.commands.reference from the tables of keys. -->",
        "",
        "The gateway reads one properties file, by the rules of `java.util.Properties`:",
        "`kafka-gateway kafka-rest.properties`. Where a property is set more than once, the strongest counts:",
        "",
        "1. `KEY=VALUE` arguments,",
        f"2. environment variables: `{environment_name('idle.timeout.ms')}` for `idle.timeout.ms`",
        "   (capitals, `_` for every dot and hyphen; properties below a prefix key get dots for `_`),",
        "3. `-Dname=value` in `KAFKAREST_OPTS`, as the Java scripts had it,",
        "4. the file; of two lines the last,",
        "5. the default.",
        "",
        "Whatever is wrong stops the start, and everything that is wrong is reported at once: unknown properties and",
        "environment variables too, with the name that was probably meant. Secrets are never printed.",
        "",
        "`kafka-gateway --check FILE [KEY=VALUE...] [--json]` reports the same without starting, then tries the way to",
        f"Kafka step by step. Exit codes: 0 all is well, {EXIT_CONFIGURATION} configuration, {codes}.",
        "",
        "A listener that other machines can reach needs `authentication.method`, or `listeners.insecure=true`.",
        "Properties marked ◆ can be set for one listener: `listener.name.<name>.ssl.keystore.location`, where the name",
        "is what stands before `://` in `listeners`. Those marked ↻ take effect on SIGHUP, all others with the next",
        "start.",
    ]
    for section, members in _sections(keys):
        lines += ["", f"## {section}", "", "| Property | Type | Default | Meaning |", "|:--|:--|:--|:--|"]
        lines += [_row(key) for key in members]
    return "\n".join([*lines, *_client_part()]) + "\n"


_LAST = ("Operation", "Not offered", "Accepted, no effect")
"""What an operator reads last."""


def _sections(keys: Iterable[ConfigKey]) -> Iterator[tuple[str, list[ConfigKey]]]:
    """The sections as the plugins declare them, but those of `_LAST` at the end."""
    found: dict[str, list[ConfigKey]] = {}
    for key in keys:
        found.setdefault(key.section, []).append(key)
    for title in [*(title for title in found if title not in _LAST), *(title for title in _LAST if title in found)]:
        yield title, found[title]


def _ignored_lines(keys: Iterable[ConfigKey]) -> Iterator[str]:
    yield ""
    yield "# Known from Confluent's REST Proxy or the Atmosphere fork; they may stay in the file."
    for reason, members in groupby(keys, key=lambda key: key.ignored):
        yield ""
        yield from _wrapped(_capital(reason) + ".")
        yield from (f"#{sample_line(key)}" for key in members)


def _sentence(key: ConfigKey) -> str:
    subject = "" if not (key.prefix or "<name>" in key.name) else f"{key.name}{'*' if key.prefix else ''}: "
    text = f"{subject}{key.doc}"
    if key.refused:
        text += f" Any other value is refused: {key.refused}."
    details = [detail for detail in (f"unit: {key.unit}" if key.unit else "", _allowed(key)) if detail]
    if key.example and not key.prefix:
        default = key.write(key.default)
        details.append(f"default: {default or 'empty'}; an example")
    if key.shipped:
        details.append(f"default: {key.write(key.default)}")
    return text + (f" ({'; '.join(details)})" if details else "")


def _allowed(key: ConfigKey) -> str:
    if key.type == "enum":
        return ", ".join(key.choices) if len(key.choices) > 1 else ""
    if key.minimum is not None and key.maximum is not None:
        return f"{key.minimum:g} to {_whole(key.maximum)}"
    if key.minimum is not None:
        return f"at least {_whole(key.minimum)}"
    if key.maximum is not None:
        return f"at most {_whole(key.maximum)}"
    return ""


def _whole(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def _wrapped(text: str) -> Iterator[str]:
    line = "#"
    for word in text.split():
        if len(line) + 1 + len(word) > 118:
            yield line
            line = "#"
        line += f" {word}"
    yield line


_TYPE_WORDS = {"duration": "ms", "size": "bytes", "long": "int", "float": "number", "str": "text", "enum": "word"}


def _row(key: ConfigKey) -> str:
    kind = key.unit or _TYPE_WORDS.get(key.type, key.type)
    if allowed := _allowed(key):
        kind += f", {allowed}"
    default = "" if key.prefix else key.write(key.default)
    if key.ignored:
        kind, meaning = "", f"No effect: {key.ignored}."
    elif key.refused:
        meaning = f"{key.doc} Any other value than the default is refused: {key.refused}."
    else:
        meaning = key.doc
    name = f"`{key.name}{'*' if key.prefix else ''}`{' ◆' if key.per_listener else ''}{' ↻' if key.live else ''}"
    shown = f"`{_cell(default)}`" if default else ""
    return f"| {name} | {_cell(kind)} | {shown} | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<port>", "`port`")


def _client_part() -> Iterator[str]:
    """The properties behind ``client.``, ``producer.``, ``consumer.`` and ``admin.``."""
    yield from (
        "",
        "## Properties of the Kafka clients",
        "",
        "They stand behind `client.`, `producer.`, `consumer.` or `admin.`. The client library is librdkafka; names of",
        "the Java clients are translated. Every other property is refused, because some load code or open files.",
        "",
        "| Property | Values | Clients |",
        "|:--|:--|:--|",
    )
    for name, allowed in sorted(property_table.ALLOWED.items()):
        values = ", ".join(allowed.words) or ("" if allowed.low is None else f"{allowed.low} to {allowed.high}")
        clients = "all" if allowed.roles == property_table.ROLES else ", ".join(allowed.roles)
        also = f" (same as `{property_table.ALIASES[name]}`)" if name in property_table.ALIASES else ""
        yield f"| `{name}`{also} | {values} | {clients} |"
    yield from (
        "",
        "Translated from Java:",
        "",
        "| Java | becomes |",
        "|:--|:--|",
        *(f"| `{name}` | `{target}` ({', '.join(roles)}) |" for name, (target, _, roles) in _renamed()),
        "| `ssl.truststore.location`, `ssl.truststore.type` | `ssl.ca.location`; PEM only |",
        "| `ssl.keystore.location`, `ssl.keystore.type` | PEM: `ssl.certificate.location` and `ssl.key.location`;"
        " PKCS12 as it is |",
        "| `sasl.jaas.config` | user, password and the like of PlainLoginModule, ScramLoginModule,"
        " OAuthBearerLoginModule, Krb5LoginModule |",
    )
    for title, table in (
        ("Accepted without effect", property_table.DROPPED),
        ("Decided by the gateway, refused", property_table.OWNED),
        ("Refused", {**property_table.FORBIDDEN, **property_table.JAVA_REFUSED}),
    ):
        yield from ("", f"{title}:", "", "| Property | Why |", "|:--|:--|")
        for reason, names in groupby(table.items(), key=lambda item: item[1]):
            yield f"| {', '.join(f'`{name}`' for name, _ in names)} | {_capital(reason)}. |"


def _renamed() -> Iterable[tuple[str, tuple[str, object, tuple[str, ...]]]]:
    return sorted(property_table.JAVA_RENAMED.items())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def main(arguments: list[str]) -> int:
    """Writes both files below the directory that the arguments name."""
    root = Path(arguments[0] if arguments else ".")
    for path, text in (
        (PROPERTIES_PATH, properties_file(built_in_keys())),
        (PAGE_PATH, configuration_page(built_in_keys())),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{root / path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
