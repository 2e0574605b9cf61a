"""Names of principals from certificates: subjects as Java writes them, and Kafka's ``ssl.principal.mapping.rules``
(KIP-371).

Patterns are RE2's, whose time grows linearly with the text; what only Java's patterns have (look-around,
back-references) is refused at start.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Final

import re2  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.x509.oid import NameOID

from kafka_gateway.counted import counted

_RULE = re.compile(
    r"\s*(?:(?P<default>DEFAULT)|RULE:(?P<pattern>(?:\\.|[^\\/])*)/(?P<replacement>(?:\\.|[^\\/])*)/(?P<case>[LU]?))"
    r"\s*(?:,|$)"
)
_REFERENCE = re.compile(r"\$([0-9]+)|\\(.)|(\$)", re.ASCII)

_KEYWORDS: Final = {
    NameOID.COMMON_NAME: "CN",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COUNTRY_NAME: "C",
    NameOID.STREET_ADDRESS: "STREET",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.USER_ID: "UID",
}
"""Of RFC 2253, section 2.3."""
_ESCAPED: Final = frozenset(',=+<>#;"\\')


def subject_of(certificate: x509.Certificate) -> str:
    """The subject as Java's ``X500Principal.getName()`` writes it, which Kafka's rules are made for: the last part
    first, ``CN=ann,OU=Shop,O=Example``."""
    parts = []
    for relative in reversed(list(certificate.subject.rdns)):
        parts.append("+".join(_attribute(each) for each in relative))
    return ",".join(parts)


def _attribute(attribute: x509.NameAttribute[Any]) -> str:
    keyword = _KEYWORDS.get(attribute.oid)
    if keyword is None or isinstance(attribute.value, bytes):  # RFC 2253, section 2.4: the DER in hexadecimal digits
        value = attribute.value.encode() if isinstance(attribute.value, str) else attribute.value
        tag = attribute._type.value
        return f"{attribute.oid.dotted_string}=#{bytes([tag]).hex()}{_length(len(value)).hex()}{value.hex()}"
    return f"{keyword}={_escaped(attribute.value)}"


def _length(count: int) -> bytes:
    """The length of a DER value (X.690 8.1.3)."""
    if count < 128:
        return bytes([count])
    digits = count.to_bytes((count.bit_length() + 7) // 8, "big")
    return bytes([128 | len(digits)]) + digits


def _escaped(text: str) -> str:
    found = "".join(f"\\{each}" if each in _ESCAPED else each for each in text)
    kept = found.lstrip(" ")
    found = "\\ " * (len(found) - len(kept)) + kept
    kept = found.rstrip(" ")
    return kept + "\\ " * (len(found) - len(kept))


@dataclasses.dataclass(frozen=True, slots=True)
class MappingRule:
    """One rule; without a pattern it is ``DEFAULT``."""

    pattern: Any = None
    replacement: str = ""
    case: str = ""

    def name_of(self, subject: str) -> str | None:
        """The principal's name; None if the rule is for other subjects."""
        if self.pattern is None:
            return subject
        if self.pattern.fullmatch(subject) is None:
            return None
        # Java replaces wherever the pattern is found, not once.
        name: str = self.pattern.sub(self._replaced, subject)
        return name.lower() if self.case == "L" else name.upper() if self.case == "U" else name

    def _replaced(self, found: Any) -> str:
        groups = self.pattern.groups

        def text_of(reference: re.Match[str]) -> str:
            digits, quoted, _ = reference.groups()
            if quoted is not None:
                return quoted
            # As Java: as many digits as still make the number of a group.
            for end in range(len(digits), 0, -1):
                if int(digits[:end]) <= groups:
                    return (found.group(int(digits[:end])) or "") + digits[end:]
            raise AssertionError("read_mapping_rules has let no such reference in")

        return _REFERENCE.sub(text_of, self.replacement)


def read_mapping_rules(text: str) -> list[MappingRule]:
    """The rules. ValueError says which one cannot be read."""
    rules, position = [], 0
    while position < len(text):
        found = _RULE.match(text, position)
        if found is None:
            raise ValueError(f"{text[position : position + 100]!r} is not RULE:PATTERN/REPLACEMENT/[LU] or DEFAULT")
        position = found.end()
        if found["default"]:
            rules.append(MappingRule())
            continue
        try:
            pattern = re2.compile(found["pattern"], _options())
        except re2.error as error:
            reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
            raise ValueError(f"{found['pattern'][:100]!r} is no pattern of RE2: {reason}") from None
        if fault := _fault_of_references(found["replacement"], pattern.groups):
            raise ValueError(f"{found[0].strip()[:100]!r}: {fault}")
        rules.append(MappingRule(pattern, found["replacement"], found["case"]))
    return rules or [MappingRule()]


def _fault_of_references(replacement: str, groups: int) -> str:
    """What is wrong with a ``$`` that stands for no group; "" where none is. All certificates would get the same name,
    ``User:$2`` say. Kafka takes such a number as it stands where the pattern has groups, and refuses each certificate
    where it has none."""
    for reference in _REFERENCE.finditer(replacement):
        digits, _, dollar = reference.groups()
        if dollar or (digits and int(digits[0]) > groups):
            named = "a $ without a number" if dollar else f"${digits[0]}"
            return f"{named} is none of the pattern's {counted(groups, 'group')}; a dollar by itself is written \\$"
    return ""


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    return options
