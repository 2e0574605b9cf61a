"""The part of docs/security.md on Kafka credentials, as it stands there."""

from __future__ import annotations

import json
import re
import shlex

from tests.behaviour.clients import Answer
from tests.credentials.conftest import Person, Start
from tests.gateway_process import ROOT
from tests.secured_kafka import PLAIN_USERS, SecuredKafka

PAGE = (ROOT / "docs" / "security.md").read_text().partition("## 8. Kafka credentials of clients")[2]


async def test_the_worked_example(start: Start, secured_kafka: SecuredKafka) -> None:
    commands = PAGE.partition("<!-- worked: kafka -->")[2].partition("```sh\n")[2].partition("```")[0]
    rights, curl = commands.replace("\\\n", "").strip().split("\n\n")
    words = shlex.split(rights)
    assert words[words.index("--allow-principal") + 1] == "User:alice"
    assert words[words.index("--resource-pattern-type") + 1] == "prefixed"
    secured_kafka.allow("alice", "read,write", f"topic:{words[words.index('--topic') + 1]}*")
    words = shlex.split(curl)
    user, _, password = words[words.index("-u") + 1].partition(":")
    assert PLAIN_USERS[user] == password
    topic = words[3].rpartition("/")[2]
    secured_kafka.create_topic(topic)
    body, kind = words[words.index("-d") + 1].encode(), words[words.index("-H") + 1].partition(": ")[2]
    settings = dict(re.findall(r"`([a-z.]+)=([A-Za-z]+)`", PAGE.partition("```sh")[2].partition("The answer")[0]))
    assert settings == {"authentication.method": "KAFKA", "kafka.credentials": "client"}

    async def as_user(name: str) -> Answer:
        async with Person(app, name) as person:
            return await person.ask("POST", f"/topics/{topic}", body, kind)

    async with start(**settings) as app:
        assert (await as_user("alice")).json["offsets"][0]["offset"] == 0
        refused = await as_user("bob")
    assert refused.status == 403
    assert refused.json == json.loads(PAGE.partition("```json\n")[2].partition("```")[0])
