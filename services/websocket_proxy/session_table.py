"""Which sockets are open on all gateways, computed from the session topic and this gateway's own sockets, without I/O.

Every gateway reads every record, and writes a whole session each time (websocket-proxy.md §4.6). So two that write at
once overwrite each other, and what was read may be older than what was written here. There are three rules:

- What this gateway does to its own sockets counts at once; their registrations are never lost to a record.
- This gateway's last write of a session overwrites records of that session before it. What such a record says of other
  gateways' sockets, and the write did not know, must not be lost: the session is to be written again. While a write is
  under way its offset is unknown, so a record that arrives then is kept until it is known.
- A record that lacks one of this gateway's open sockets, or still has one of its closed ones, must be corrected: the
  session is to be written again.
"""

from __future__ import annotations

import dataclasses

from kafka_gateway.services.websocket_proxy.session import CONSUMER, Instance, Kind, ProxySession


class KindClash(Exception):
    """The id belongs to a session of the other kind."""


class Duplicate(Exception):
    """The consumer is registered already."""


class LimitReached(Exception):
    """The session has as many sockets as it may; the argument is the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class SessionTable:
    """``server`` is this gateway's name in the records."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.sessions: dict[str, ProxySession] = {}
        """All sessions, as far as this gateway knows."""
        self._own: dict[str, dict[str, int]] = {}
        """This gateway's sockets: session, instance, how many sockets share it (§2.6: twins)."""
        self._writing: dict[str, int] = {}
        self._held: dict[str, tuple[int, ProxySession | None]] = {}
        """Session → the newest record that came while a write was under way, with its offset."""
        self._written: dict[str, int] = {}
        """Session → the offset of this gateway's last write."""

    # --- own sockets --------------------------------------------------------------------------------------------------

    def add(self, kind: Kind, session_id: str, instance_id: str, limit: int) -> ProxySession:
        """Registers one socket and gives the session to be written. Raises KindClash, Duplicate, LimitReached; then
        nothing has changed.
        """
        session = self.sessions.get(session_id)
        if session is None:
            session = ProxySession(kind, session_id, limit)
        elif session.kind != kind:
            raise KindClash
        if kind == CONSUMER and session.find(instance_id) is not None:
            raise Duplicate
        if limit and len(session.instances) + 1 > limit:
            raise LimitReached(limit)
        session = dataclasses.replace(session, most=limit).with_instance(Instance(instance_id, self.server))
        self.sessions[session_id] = session
        own = self._own.setdefault(session_id, {})
        own[instance_id] = own.get(instance_id, 0) + 1
        return session

    def remove(self, session_id: str, instance_id: str) -> bool:
        """Removes one socket. Returns whether the session is to be written."""
        own = self._own.get(session_id, {})
        count = own.get(instance_id, 0)
        if count != 1:
            if count:
                own[instance_id] = count - 1
            return False
        del own[instance_id]
        if not own:
            self._own.pop(session_id, None)
        session = self.sessions.get(session_id)
        if session is None or Instance(instance_id, self.server) not in session.instances:
            return False
        self.sessions[session_id] = session.without(Instance(instance_id, self.server))
        return True

    def set_limit(self, session_id: str, kind: Kind, limit: int) -> bool:
        """Changes the limit of a session, if there is one. Returns whether it is to be written."""
        session = self.sessions.get(session_id)
        if session is None or session.kind != kind or session.most == limit:
            return False
        self.sessions[session_id] = dataclasses.replace(session, most=limit)
        return True

    def own_sessions(self) -> list[str]:
        return list(self._own)

    def has_own(self, session_id: str) -> bool:
        """Whether this gateway has sockets of the session."""
        return session_id in self._own

    def leave(self) -> list[str]:
        """Forgets all own sockets. Returns the sessions to be written."""
        self._own.clear()
        return self._drop({self.server})

    # --- other gateways -----------------------------------------------------------------------------------------------

    def servers(self) -> set[str]:
        """The other gateways that have sockets."""
        return {each.server for session in self.sessions.values() for each in session.instances} - {self.server}

    def drop_servers(self, gone: set[str]) -> list[str]:
        """Removes the sockets of gateways that are gone. Returns the sessions to be written."""
        return self._drop(gone - {self.server})

    def _drop(self, servers: set[str]) -> list[str]:
        changed = []
        for session_id, session in list(self.sessions.items()):
            dead = [each for each in session.instances if each.server in servers]
            if dead:
                self.sessions[session_id] = session.without(*dead)
                changed.append(session_id)
        return changed

    # --- the topic ----------------------------------------------------------------------------------------------------

    def begin_write(self, session_id: str) -> None:
        self._writing[session_id] = self._writing.get(session_id, 0) + 1

    def end_write(self, session_id: str, offset: int | None) -> bool | None:
        """Notes the end of a write: its offset, or None if that is unknown. Returns what `read` says of the record that
        came meanwhile."""
        left = self._writing.pop(session_id, 1) - 1
        if left:
            self._writing[session_id] = left
        if offset is not None:
            self._written[session_id] = max(offset, self._written.get(session_id, -1))
        if left or session_id not in self._held:
            return None
        held_offset, held = self._held.pop(session_id)
        return self.read(session_id, held, held_offset)

    def read(self, session_id: str, session: ProxySession | None, offset: int) -> bool | None:
        """Takes a record of the topic. ``session``: None if it was removed.

        Returns whether the record is to be corrected, by writing the session again; None if it changes nothing, or if
        that cannot be said yet.
        """
        if session_id in self._writing:
            self._held[session_id] = (offset, session)
            return None
        written = self._written.get(session_id, -1)
        if offset < written:
            return self._overwritten(session_id, session)
        if offset == written:
            return None
        own = self._own.get(session_id, {})
        if session is None:
            known = self.sessions.pop(session_id, None)
            if not own or known is None:
                return False
            session = dataclasses.replace(known, instances=())
        right = session.without(
            *(each for each in session.instances if each.server == self.server and each.id not in own)
        )
        known = self.sessions.get(session_id)
        if known is None or known.kind == session.kind:
            for instance_id in own:
                right = right.with_instance(Instance(instance_id, self.server))
        self.sessions[session_id] = right
        return right != session

    def _overwritten(self, session_id: str, session: ProxySession | None) -> bool | None:
        """Takes what an overwritten record says of other gateways. True if that was unknown."""
        known = self.sessions.get(session_id)
        if known is None or (session is not None and session.kind != known.kind):
            return None
        listed = session.instances if session is not None else ()
        own = self._own.get(session_id, {})
        foreign = tuple(each for each in listed if each.server != self.server)
        right = dataclasses.replace(known, instances=foreign)
        for instance_id in own:
            right = right.with_instance(Instance(instance_id, self.server))
        self.sessions[session_id] = right
        return True if set(right.instances) != set(known.instances) else None

    def restarted(self) -> list[str]:
        """The topic is read from its beginning again. Returns the sessions to be written when that is done."""
        self._written.clear()
        self._held.clear()
        for session_id, session in list(self.sessions.items()):
            foreign = [each for each in session.instances if each.server != self.server]
            self.sessions[session_id] = session.without(*foreign)
        return self.own_sessions()
