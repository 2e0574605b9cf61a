"""An authorizer: while the operator wants it so, nobody changes anything."""

from __future__ import annotations

from kafka_gateway.rights import Authorizer, Decision, Judge
from kafka_gateway.session import Principal

_LOOKING = ("read", "describe", "describe-configs")


class ReadOnly(Authorizer):
    def judge(self, principal: Principal) -> Judge:
        def decide(operation: str, resource: str, name: str) -> Decision:
            return Decision(operation in _LOOKING, "the gateway is read-only")

        return decide
