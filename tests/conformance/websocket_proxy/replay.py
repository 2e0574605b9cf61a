#!/usr/bin/env python3
"""Replay recorded conversations of the WebSocket proxy protocol and compare them. See README.md.

The only dependency is confluent-kafka. The WebSocket client below is written on bare asyncio streams, because the
cases need what client libraries hide: close frames without waiting, broken frames, unsolicited pongs, refused upgrades.
"""

import argparse
import asyncio
import base64
import contextlib
import fnmatch
import hashlib
import http.client
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
SHOWN_HEADERS = (
    "allow",
    "content-type",
    "server",
    "www-authenticate",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "access-control-allow-origin",
)
LONG = 4096  # frames and bodies above this are recorded by length and digest


# --- the wire -------------------------------------------------------------------------------------------------------


def frame(opcode, payload, fin=True, mask=True):
    head = bytes([(0x80 if fin else 0) | opcode])
    bit, size = (0x80 if mask else 0), len(payload)
    head += (
        bytes([bit | size])
        if size < 126
        else bytes([bit | 126]) + struct.pack(">H", size)
        if size < 65536
        else bytes([bit | 127]) + struct.pack(">Q", size)
    )
    if not mask:
        return head + payload
    key = os.urandom(4)
    stream = (key * (size // 4 + 1))[:size]
    return head + key + (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


class Socket:
    """One client end: everything the server sends is kept, in order, with its time."""

    def __init__(self):
        self.data, self.control, self.close, self.refusal = [], [], None, None
        self.changed, self.writer, self.task, self.taken, self.sent_close = asyncio.Condition(), None, None, 0, False

    async def open(self, host, port, target, headers, upgrade):
        self.reader, self.writer = await asyncio.open_connection(host, port, limit=1 << 26)
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}:{port}"]
        if upgrade:
            lines += [
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode(),
            ]
        lines += [f"{k}: {v}" for k, v in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 25)).decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
        got = {k.strip().lower(): v.strip() for k, v in (line.split(":", 1) for line in head[1:] if ":" in line)}
        if status != 101:
            body = b""
            with contextlib.suppress(asyncio.TimeoutError, asyncio.IncompleteReadError):
                if "content-length" in got:
                    body = await asyncio.wait_for(self.reader.readexactly(int(got["content-length"])), 5)
            self.refusal = answer(status, got, body)
            self.writer.close()
            return self.refusal
        self.task = asyncio.create_task(self.read())
        return answer(status, got, None)

    async def read(self):
        parts, kind = b"", TEXT
        try:
            while True:
                a, b = await self.reader.readexactly(2)
                size = b & 0x7F
                if size == 126:
                    size = struct.unpack(">H", await self.reader.readexactly(2))[0]
                elif size == 127:
                    size = struct.unpack(">Q", await self.reader.readexactly(8))[0]
                payload, opcode = await self.reader.readexactly(size), a & 15
                if opcode in (PING, PONG):
                    if opcode == PING and not self.sent_close:
                        self.writer.write(frame(PONG, payload))
                    await self.note(self.control, ("ping" if opcode == PING else "pong", time.monotonic(), payload))
                elif opcode == CLOSE:
                    self.close = {
                        "code": struct.unpack(">H", payload[:2])[0] if len(payload) > 1 else None,
                        "reason": payload[2:].decode("utf-8", "replace"),
                    }
                    if not self.sent_close:
                        self.sent_close = True
                        self.writer.write(frame(CLOSE, payload[:2]))
                    await self.note(None, None)
                else:
                    kind, parts = (opcode, payload) if opcode else (kind, parts + payload)
                    if a & 0x80:
                        await self.note(self.data, (kind, payload if opcode else parts, time.monotonic()))
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            pass
        if self.close is None:
            self.close = {"code": None, "reason": "connection dropped without a close frame"}
        await self.note(None, None)

    async def note(self, where, what):
        async with self.changed:
            if where is not None:
                where.append(what)
            self.changed.notify_all()

    async def until(self, predicate, seconds):
        async def wait():
            async with self.changed:
                await self.changed.wait_for(predicate)

        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(wait(), seconds)

    def take(self):
        new, self.taken = self.data[self.taken :], len(self.data)
        return new


def shown(raw, text=True):
    if len(raw) > LONG:
        return {"length": len(raw), "sha256": hashlib.sha256(raw).hexdigest()[:16]}
    return raw.decode("utf-8", "replace") if text else {"binary": raw.hex()}


def answer(status, headers, body):
    seen = {"status": status, "headers": {k: headers[k] for k in SHOWN_HEADERS if k in headers}}
    if body is not None:
        seen["body"] = shown(body)
    return seen


# --- Kafka ----------------------------------------------------------------------------------------------------------


def to_bytes(value):
    """ "text:…" and "hex:…" are how records are written in cases and transcripts; null is null."""
    if value is None:
        return None
    kind, rest = value.split(":", 1)
    return bytes.fromhex(rest) if kind == "hex" else rest.encode()


def from_bytes(raw):
    if raw is None:
        return None
    with contextlib.suppress(UnicodeDecodeError):
        if (text := raw.decode()).isprintable() and len(text) < LONG:
            return "text:" + text
    return "hex:" + raw.hex() if len(raw) < LONG else f"sha256:{hashlib.sha256(raw).hexdigest()[:16]} length:{len(raw)}"


class Kafka:
    def __init__(self, bootstrap):
        from confluent_kafka.admin import AdminClient

        self.common = {"bootstrap.servers": bootstrap, "log_level": 0}
        self.admin, self.transactions, self.topics = AdminClient(self.common), {}, []

    def create(self, name, partitions, config):
        from confluent_kafka.admin import NewTopic

        self.topics.append(name)
        self.admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(20)
        for _ in range(100):  # created is not yet known to every listener of the broker
            seen = self.admin.list_topics(timeout=10).topics.get(name)
            if seen and len(seen.partitions) == partitions and all(p.leader >= 0 for p in seen.partitions.values()):
                break
            time.sleep(0.05)
        time.sleep(0.2)

    def exists(self, name):
        return name in self.admin.list_topics(timeout=10).topics

    def produce(self, topic, records, transaction, client):
        from confluent_kafka import Producer

        extra = {"linger.ms": 0, "client.id": client}
        if transaction:
            extra["transactional.id"] = client
        producer = Producer(self.common | extra)
        if transaction:
            producer.init_transactions(20)
            producer.begin_transaction()
        for r in records:
            headers = [(k, None if v is None else v.encode()) for k, v in r.get("headers", [])] or None
            producer.produce(
                topic,
                value=to_bytes(r.get("value")),
                key=to_bytes(r.get("key")),
                headers=headers,
                partition=r.get("partition", 0),
            )
            producer.flush(20)
        if transaction == "commit":
            producer.commit_transaction(20)
        elif transaction == "abort":
            producer.abort_transaction(20)

    def read(self, topic, count, within, isolation, only=None):
        from confluent_kafka import Consumer, KafkaError, TopicPartition

        consumer = Consumer(
            self.common
            | {
                "group.id": "kw-verify",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": isolation,
                "auto.offset.reset": "earliest",
            }
        )
        parts = sorted(consumer.list_topics(topic, 10).topics[topic].partitions)
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if sum(consumer.get_watermark_offsets(TopicPartition(topic, p), 10)[1] for p in parts) >= count:
                break
            time.sleep(0.1)
        time.sleep(0.3)
        consumer.assign([TopicPartition(topic, p, 0) for p in parts])
        rows, ended = [], set()
        while len(ended) < len(parts) and time.monotonic() < deadline + 15:
            m = consumer.poll(0.5)
            if m is None:
                continue
            if m.error():
                if m.error().code() == KafkaError._PARTITION_EOF:
                    ended.add(m.partition())
                continue
            if only is not None and m.key() != only.encode():
                continue
            rows.append(
                {
                    "partition": m.partition(),
                    "offset": m.offset(),
                    "key": from_bytes(m.key()),
                    "value": from_bytes(m.value()),
                    "headers": [[k, from_bytes(v)] for k, v in m.headers() or []],
                }
            )
        consumer.close()
        if only is not None:  # a shared topic: other cases write to it too, so offsets say nothing
            return {"records": [r["value"] for r in rows]}
        return {"records": sorted(rows, key=lambda r: (r["partition"], r["offset"]))}

    def committed(self, group, topic, until, within):
        from confluent_kafka import ConsumerGroupTopicPartitions as Wanted
        from confluent_kafka import TopicPartition

        parts = sorted(self.admin.list_topics(topic, 10).topics[topic].partitions)
        deadline, offsets = time.monotonic() + within, {}
        while True:
            wanted = Wanted(group, [TopicPartition(topic, p) for p in parts])
            try:
                got = self.admin.list_consumer_group_offsets([wanted])[group].result(10)
                offsets = {str(tp.partition): tp.offset if tp.offset >= 0 else None for tp in got.topic_partitions}
            except Exception as e:
                offsets = {"error": str(e)}
            if offsets == until or time.monotonic() > deadline:
                return {"offsets": offsets}
            time.sleep(0.1)

    def stable(self, group, members, within):
        deadline = time.monotonic() + within
        while True:
            with contextlib.suppress(Exception):
                g = self.admin.describe_consumer_groups([group])[group].result(10)
                assigned = [m for m in g.members if m.assignment and m.assignment.topic_partitions]
                if g.state.name == "STABLE" and len(assigned) == members:
                    return {"stable": members}
            if time.monotonic() > deadline:
                return {"stable": None}
            time.sleep(0.2)

    def commit(self, group, topic, offsets):
        from confluent_kafka import ConsumerGroupTopicPartitions as Wanted
        from confluent_kafka import TopicPartition

        wanted = Wanted(group, [TopicPartition(topic, int(p), o) for p, o in offsets.items()])
        self.admin.alter_consumer_group_offsets([wanted])[group].result(10)
        return {}

    def delete(self, topic):
        self.admin.delete_topics([topic])[topic].result(20)
        return {}

    def clean(self, run):
        with contextlib.suppress(Exception):
            names = [t for t in self.admin.list_topics(timeout=10).topics if t.startswith(run)]
            for f in self.admin.delete_topics(names).values() if names else []:
                with contextlib.suppress(Exception):
                    f.result(20)
        with contextlib.suppress(Exception):
            groups = [
                g.group_id for g in self.admin.list_consumer_groups().result(10).valid if g.group_id.startswith(run)
            ]
            for f in self.admin.delete_consumer_groups(groups).values() if groups else []:
                with contextlib.suppress(Exception):
                    f.result(20)


# --- one case -------------------------------------------------------------------------------------------------------


class Run:
    def __init__(self, options):
        self.o, self.kafka = options, Kafka(options.bootstrap)
        self.id = "kw" + hex(int(time.time() * 10))[-7:]

    async def case(self, case, number):
        ident = f"{self.id}x{number:03d}"
        sockets, memory = {}, {}
        names = {"id": ident, "run": self.id}
        for alias, spec in case.get("topics", {}).items():
            names[alias] = f"{ident}-{alias}"
            spec = spec if isinstance(spec, dict) else {"partitions": spec}
            await asyncio.to_thread(self.kafka.create, names[alias], spec["partitions"], spec.get("config", {}))
        seen = []
        for step in case["steps"]:
            step = self.fill(step, names, memory)
            try:
                got = await self.step(step, sockets, names, memory)
            except Exception as e:
                got = {"failed": f"{type(e).__name__}: {e}"}
            seen.append(self.mask(got, ident, step.get("mask", [])))
        for s in sockets.values():
            if s.task and not s.close:
                with contextlib.suppress(Exception):
                    s.sent_close = True
                    s.writer.write(frame(CLOSE, b"\x03\xe8"))
                    await s.until(lambda s=s: s.close, 2)
            if s.writer:
                s.writer.transport.abort()
        return {"case": case["name"], "profile": case["profile"], "steps": seen}

    def fill(self, step, names, memory):
        """`{id}`, `{t}` and the like in any string; `{ids:a:2}` is the message id of the third frame that socket a received."""

        def swap(m):
            word, _, rest = m[1].partition(":")
            if word == "fill":
                return "x" * int(rest)
            if word == "basic":
                return base64.b64encode(rest.encode()).decode()
            if word == "ids":
                name, n = rest.split(":")
                return memory.get(name, [])[int(n)] if len(memory.get(name, [])) > int(n) else "never-received"
            return names.get(word, m[0])

        def walk(v):
            if isinstance(v, str):
                return re.sub(r"\{([a-z]+[a-z0-9]*(?::[^{}]*)?)\}", swap, v)
            if isinstance(v, list):
                return [walk(x) for x in v]
            return {walk(k): walk(x) for k, x in v.items()} if isinstance(v, dict) else v

        return walk(step)

    def mask(self, seen, ident, extra):
        text = json.dumps(seen, ensure_ascii=False)
        text = text.replace(ident, "{id}").replace(self.id, "{run}")
        text = re.sub(r"(?<![\d.])1[6-9]\d{11}(?!\d)", "<timestamp>", text)
        text = re.sub(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", "<uuid>", text)
        for pattern, new in extra:
            text = re.sub(pattern, new, text)
        return json.loads(text)

    async def step(self, st, sockets, names, memory):
        verb = next(v for v in VERBS if v in st)
        name = st[verb]
        if verb in ("send", "raw", "receive", "close", "closed", "half-close", "drop", "control"):
            s = sockets.get(name)
            if s is None or not s.task:
                return {"skipped": "socket is not open"}
        within = st.get("within", 8)
        if verb == "open":
            s = sockets[name] = Socket()
            host, port = (self.o.admin if st.get("listener") == "admin" else self.o.target).split(":")
            target = st["path"] + ("?" + st["query"] if st.get("query") is not None else "")
            for attempt in range(st.get("tries", 1)):
                got = await s.open(host, int(port), target, st.get("headers", {}), st.get("upgrade", True))
                if got["status"] == 101:
                    break
                await asyncio.sleep(0.5)
            return got
        if verb == "send":
            for n in range(st.get("repeat", 1)):
                if "json" in st:
                    payload, op = json.dumps(st["json"], ensure_ascii=False).replace("<n>", str(n)).encode(), TEXT
                elif "text" in st:
                    payload, op = st["text"].replace("<n>", str(n)).encode(), TEXT
                else:
                    payload, op = bytes.fromhex(st["hex"]), TEXT if st.get("as") == "text" else BINARY
                pieces = st.get("fragments", 1)
                size = -(-len(payload) // pieces) or 1
                chunks = [payload[i : i + size] for i in range(0, len(payload), size)] or [b""]
                for i, c in enumerate(chunks):
                    s.writer.write(frame(op if i == 0 else 0, c, i == len(chunks) - 1))
            with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
                await asyncio.wait_for(s.writer.drain(), 10)
            return {}
        if verb == "raw":
            s.writer.write(bytes.fromhex(st["hex"]))
            return {}
        if verb == "receive":
            have = s.taken
            await s.until(lambda: len(s.data) >= have + st["count"] or s.close, within)
            await s.until(lambda: s.close, st.get("extra", 0.4))
            return self.frames(s, name, st, memory)
        if verb in ("close", "half-close"):
            if verb == "close":
                s.sent_close = True
                code = st.get("code", 1000)
                s.writer.write(
                    frame(CLOSE, b"" if code is None else struct.pack(">H", code) + st.get("reason", "").encode())
                )
            else:
                s.writer.write_eof()
            await s.until(lambda: s.close, within)
            return self.frames(s, name, st, memory)
        if verb == "closed":
            await s.until(lambda: s.close, within)
            return self.frames(s, name, st, memory)
        if verb == "drop":
            s.task.cancel()
            s.writer.transport.abort()
            s.task = None
            return {}
        if verb == "control":
            before = len(s.control)
            start = time.monotonic()
            if "ping" in st:
                s.writer.write(frame(PING, st["ping"].encode()))
                await s.until(lambda: any(c[2] for c in s.control[before:]), within)
                return {"replies": [[k, p.decode()] for k, _, p in s.control[before:] if p]}
            await asyncio.sleep(within)
            new = s.control[before:]
            return {
                "kinds": sorted({k for k, _, _ in new}),
                "first after seconds": round(new[0][1] - start) if new else None,
                "open": s.close is None,
            }
        if verb == "http":
            return await asyncio.to_thread(self.http, st)
        if verb == "produce":
            await asyncio.to_thread(
                self.kafka.produce, names.get(name, name), st["records"], st.get("transaction"), names["id"] + "-direct"
            )
            return {}
        if verb == "topic":
            return await asyncio.to_thread(
                self.kafka.read,
                names.get(name, name),
                st.get("count", 1),
                st.get("within", 4),
                st.get("isolation", "read_uncommitted"),
                st.get("key"),
            )
        if verb == "committed":
            return await asyncio.to_thread(
                self.kafka.committed, name, names[st["of"]], st.get("until"), st.get("within", 5)
            )
        if verb == "commit":
            return await asyncio.to_thread(self.kafka.commit, name, names[st["of"]], st["offsets"])
        if verb == "stable":
            return await asyncio.to_thread(self.kafka.stable, name, st.get("members", 1), st.get("within", 20))
        if verb == "exists":
            return {"exists": await asyncio.to_thread(self.kafka.exists, name)}
        if verb == "delete":
            return await asyncio.to_thread(self.kafka.delete, names[name])
        if verb == "wait":
            await asyncio.sleep(name)
            return {}
        if verb == "server":
            await asyncio.to_thread(self.server, name, self.profile)
            return {}
        raise ValueError(f"unknown step {st}")

    def frames(self, s, name, st, memory):
        new, start = s.take(), None
        out = []
        for kind, payload, _ in new:
            value = None
            with contextlib.suppress(ValueError):
                value = json.loads(payload)
            if isinstance(value, dict) and "wsProxyMessageId" in value:
                memory.setdefault(name, []).append(value["wsProxyMessageId"])
            if "show" in st and isinstance(value, dict):
                out.append({k: value.get(k) for k in st["show"]})
            else:
                out.append(shown(payload, kind == TEXT))
        if st.get("sort"):
            out.sort(key=str)
        seen = {"frames": out}
        if "rhythm" in st:
            times = [t for _, _, t in new]
            seen["gaps"] = [round((b - a) / st["rhythm"]) for a, b in zip(times, times[1:])]
        if s.close:
            seen["close"] = s.close
        elif next(iter(st)) != "receive":
            seen["close"] = "still open"
        return seen

    def http(self, st):
        host, port = (self.o.admin if st.get("listener") == "admin" else self.o.target).split(":")
        c = http.client.HTTPConnection(host, int(port), timeout=25)
        target = st["path"] + ("?" + st["query"] if st.get("query") else "")
        body, headers = st.get("body"), dict(st.get("headers", {}))
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        got = None
        until = time.monotonic() + st.get("until-within", 0)
        while True:
            c.request(st["http"], target, body.encode() if body is not None else None, headers)
            r = c.getresponse()
            raw = r.read()
            got = answer(r.status, {k.lower(): v for k, v in r.getheaders()}, raw)
            if "only" in st and r.status == 200:
                got["body"] = [x for x in json.loads(raw) if st["only"] in json.dumps(x)]
            if r.status == st.get("until", r.status) or time.monotonic() > until:
                c.close()
                return got
            time.sleep(0.3)

    # --- profiles ---

    def server(self, what, profile):
        command = self.o.start if what == "start" else self.o.stop
        env = dict(os.environ, PORT=self.o.target.split(":")[1])
        settings = self.profiles[profile]
        names = {"run": self.id, "profile": profile, "admin": self.o.admin.split(":")[1], "bootstrap": self.o.bootstrap}
        env |= {k: self.fill(v, names, {}) for k, v in settings.get("env", {}).items()}
        config = self.fill(settings.get("config", {}), names, {})
        path = Path(tempfile.gettempdir()) / f"{self.id}-{profile}"
        path.with_suffix(".json").write_text(json.dumps(config, indent=1))
        path.with_suffix(".properties").write_text("".join(f"{k}={v}\n" for k, v in flat(config)))
        env |= {"KIT_CONFIG": str(path.with_suffix(".json")), "KIT_PROPERTIES": str(path.with_suffix(".properties"))}
        subprocess.run(command, shell=True, env=env, check=True, stdout=subprocess.DEVNULL)
        if what == "start":
            host, port = self.o.target.split(":")
            for _ in range(300):
                try:
                    c = http.client.HTTPConnection(host, int(port), timeout=5)
                    c.request("GET", "/healthcheck")
                    return c.getresponse().status
                except OSError:
                    time.sleep(0.2)
            raise RuntimeError("the server does not answer")

    async def all(self, kit, cases):
        self.profiles = json.loads((kit / "profiles.json").read_text())
        results, number = [], 0
        for profile in [p for p in self.profiles if any(c["profile"] == p for c in cases)]:
            self.profile = profile
            mine = [c for c in cases if c["profile"] == profile]
            if self.o.start:
                await asyncio.to_thread(self.server, "start", profile)
            gate = asyncio.Semaphore(self.o.jobs)

            async def one(case, n):
                async with gate:
                    begun = time.monotonic()
                    try:
                        results.append(await asyncio.wait_for(self.case(case, n), 150))
                    except Exception as e:
                        results.append({"case": case["name"], "profile": profile, "steps": [{"failed": repr(e)}]})
                    if self.o.verbose:
                        print(f"  {time.monotonic() - begun:5.1f} s  {case['name']}", file=sys.stderr)

            try:
                numbered = [(c, number + i) for i, c in enumerate(mine)]
                number += len(mine)
                await asyncio.gather(*(one(c, n) for c, n in numbered if not c.get("alone")))
                for c, n in sorted(
                    ((c, n) for c, n in numbered if c.get("alone")), key=lambda x: "stop" in str(x[0]["steps"])
                ):
                    await one(c, n)
            finally:
                if self.o.stop:
                    await asyncio.to_thread(self.server, "stop", profile)
        order = {c["name"]: i for i, c in enumerate(cases)}
        return sorted(results, key=lambda r: order[r["case"]])


VERBS = (
    "open",
    "send",
    "raw",
    "receive",
    "close",
    "closed",
    "half-close",
    "drop",
    "control",
    "http",
    "produce",
    "topic",
    "committed",
    "commit",
    "stable",
    "exists",
    "delete",
    "wait",
    "server",
)


def flat(value, prefix=""):
    if isinstance(value, (dict, list)):
        for k, v in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(v, f"{prefix}.{k}" if prefix else str(k))
    else:
        yield prefix, value


# --- comparison -----------------------------------------------------------------------------------------------------


def fits(wanted, got):
    """Objects need only the members that are named, "*" fits anything, "~…" is a regular expression."""
    if wanted == "*":
        return True
    if isinstance(wanted, str) and wanted.startswith("~") and isinstance(got, (str, int)):
        return re.fullmatch(wanted[1:], str(got), re.S) is not None
    if isinstance(wanted, dict):
        return isinstance(got, dict) and all(k in got and fits(v, got[k]) for k, v in wanted.items())
    if isinstance(wanted, list):
        return isinstance(got, list) and len(wanted) == len(got) and all(map(fits, wanted, got))
    return wanted == got


def loose(value):
    """JSON texts inside an observation become values, so that spacing and member order no longer count."""
    if isinstance(value, str):
        try:
            return loose(json.loads(value.replace("<timestamp>", "0"))) if value[:1] in "{[" else value
        except ValueError:
            return value
    if isinstance(value, list):
        return [loose(v) for v in value]
    return {k: loose(v) for k, v in value.items()} if isinstance(value, dict) else value


def expected(case, step, old, rules):
    """The rules of deviations.json that hold for every case, applied to what was recorded."""
    old = json.loads(json.dumps(old))
    if (
        "plain-text errors" in rules
        and old.get("status", 0) >= 400
        and old["headers"].get("content-type", "").startswith("text/plain")
    ):
        old["headers"]["content-type"] = "application/json"
        if old.get("body"):
            text = rules["plain-text errors"]["texts"].get(old["body"], old["body"])
            old["body"] = json.dumps({"message": text}, indent=2, separators=(",", " : "), ensure_ascii=False)
    if "message id twice" in rules and "frames" in old:
        old["frames"] = [
            re.sub(r'"clientMessageId":("(?:[^"\\]|\\.)*")}$', r'"clientMessageId":\1,"messageId":\1}', f)
            if isinstance(f, str)
            else f
            for f in old["frames"]
        ]
    if "no key type, no key" in rules and "topic" in step and "keyType" not in json.dumps(case["steps"]):
        for r in old["records"]:
            if isinstance(r, dict) and r["key"] == "text:":
                r["key"] = None
    return old


def lenient(seen, step, rules):
    """The reason of a close that the server began is free text, the echo of the client's is not; `Allow` is a set."""
    if "allow is a set" in rules and "allow" in seen.get("headers", {}):
        seen = {**seen, "headers": {**seen["headers"], "allow": sorted(re.split(r",\s*", seen["headers"]["allow"]))}}
    if "reason is free" in rules and "close" not in step and isinstance(seen.get("close"), dict):
        return {**seen, "close": {"code": seen["close"]["code"]}}
    return seen


def compare(cases, recorded, got, deviations, options):
    bad = excused = 0
    rules = {} if options.reference else deviations.get("rules", {})
    for case in cases:
        name = case["name"]
        old, new = recorded.get(name), got[name]
        if old is None:
            print(f"{name}: not in the transcript")
            bad += 1
            continue
        deviation = (
            {}
            if options.reference
            else next((d for d in deviations.get("cases", []) if fnmatch.fnmatch(name, d["case"])), {})
        )
        if len(old["steps"]) != len(new["steps"]):
            print(f"{name}: {len(new['steps'])} steps instead of {len(old['steps'])}: {new['steps']}")
            bad += 1
            continue
        for i, (was, is_) in enumerate(zip(old["steps"], new["steps"])):
            step = case["steps"][i]
            a, b = lenient(expected(case, step, was, rules), step, rules), lenient(is_, step, rules)
            allowed = deviation.get("steps", {}).get(str(i))
            if allowed is not None and fits(allowed, b):
                excused += was != is_
                continue
            if a == b and not (allowed is not None and deviation.get("must")):
                excused += was != is_
                continue
            if (
                (options.ignore_form or deviation.get("loose"))
                and not (allowed is not None and deviation.get("must"))
                and loose(a) == loose(b)
            ):
                excused += 1
                continue
            bad += 1
            print(f"{name} [{case['profile']}] step {i}: {json.dumps(step, ensure_ascii=False)[:300]}")
            print(
                f"   expected {json.dumps(a, ensure_ascii=False)[:1500]}"
                if not deviation.get("must") or allowed is None
                else f"   recorded {json.dumps(was, ensure_ascii=False)[:1500]}"
            )
            if allowed is not None:
                print(
                    f"   {'required' if deviation.get('must') else 'or'} ({deviation.get('decision')}) {json.dumps(allowed, ensure_ascii=False)[:1500]}"
                )
            print(f"   now      {json.dumps(b, ensure_ascii=False)[:1500]}")
    print(f"{len(cases)} cases, {bad} unexpected differences, {excused} steps deviate as decided")
    return 1 if bad else 0


def load(kit, options):
    cases = [c for f in sorted((kit / "cases").glob("*.json")) for c in json.loads(f.read_text())]
    names = [c["name"] for c in cases]
    if len(set(names)) != len(names):
        sys.exit("a case name stands twice: " + ", ".join(sorted({n for n in names if names.count(n) > 1})))
    for c in cases:
        c.setdefault("profile", "default")
    globs = options.case.split(",")
    return [
        c
        for c in cases
        if any(fnmatch.fnmatch(c["name"], g) for g in globs) and options.profile in (None, c["profile"])
    ]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("mode", choices=["record", "compare", "list"])
    p.add_argument(
        "--kit",
        type=Path,
        default=Path(__file__).parent,
        help="folder with cases/, profiles.json, deviations.json, transcripts/",
    )
    p.add_argument("--transcript", type=Path, help="default: the kit's transcripts/kafka-websocket-proxy.jsonl")
    p.add_argument("--target", default="127.0.0.1:18092")
    p.add_argument("--admin", default="127.0.0.1:19078")
    p.add_argument("--bootstrap", default="127.0.0.1:19092")
    p.add_argument(
        "--start", help="command that starts the server; without it, --profile names what is already running"
    )
    p.add_argument("--stop", help="command that stops it")
    p.add_argument("--profile")
    p.add_argument("--case", default="*", help="globs over case names, with commas between them")
    p.add_argument("--jobs", type=int, default=4)
    p.add_argument(
        "--reference", action="store_true", help="the reference itself is compared: deviations.json is not used"
    )
    p.add_argument("--ignore-form", action="store_true", help="member order and spacing of JSON do not count")
    p.add_argument("--keep", action="store_true", help="leave topics and groups in place")
    p.add_argument("--verbose", action="store_true")
    o = p.parse_args()
    cases = load(o.kit, o)
    path = o.transcript or o.kit / "transcripts" / "kafka-websocket-proxy.jsonl"
    if o.mode == "list":
        for c in cases:
            print(f"{c['profile']:14} {c['name']:45} {c.get('about', '')}")
        print(len(cases))
        return 0
    if not o.start and not o.profile:
        p.error("give --start and --stop, or --profile for a server that runs already")
    if not o.start:
        cases = [c for c in cases if not any("server" in s for s in c["steps"])]
    run = Run(o)
    try:
        results = asyncio.run(run.all(o.kit, cases))
    finally:
        if not o.keep:
            run.kafka.clean(run.id)
    recorded = {r["case"]: r for r in map(json.loads, path.read_text().splitlines())} if path.exists() else {}
    if o.mode == "record":
        merged = recorded | {r["case"]: r for r in results}
        every = [c["name"] for c in load(o.kit, argparse.Namespace(case="*", profile=None))]
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(merged[n], ensure_ascii=False) + "\n" for n in every if n in merged))
        print(f"{len(results)} cases recorded")
        return 0
    decided = json.loads((o.kit / "deviations.json").read_text()) if (o.kit / "deviations.json").exists() else {}
    return compare(cases, recorded, {r["case"]: r for r in results}, decided, o)


if __name__ == "__main__":
    sys.exit(main())
