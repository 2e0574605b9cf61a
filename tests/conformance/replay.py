#!/usr/bin/env python3
"""Replays HTTP conversations with a Kafka REST server, records the replies and compares them. See README.md."""
import argparse, base64, datetime, fnmatch, gzip, http.client, json, re, sys, time, urllib.parse, uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADERS = ["Content-Type", "Content-Encoding", "Allow", "Location", "WWW-Authenticate", "Retry-After", "Vary", "Cache-Control"]
SOFT_HEADERS = {"Vary", "Cache-Control"}  # reported, but never a failure
SOFT_MEMBERS = {"message", "error"}       # texts for people: reported, but never a failure
V2 = "application/vnd.kafka.%sv2+json"
MEDIA = {"v2": V2 % ""} | {f: V2 % (f + ".") for f in ("binary", "json", "avro", "jsonschema", "protobuf")}
BROKER_MEMBERS = {"broker", "broker_id", "leader"}
UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"


# --- cases ----------------------------------------------------------------------------------------------------------

def load_cases(folder, only):
    cases = [case for file in sorted(Path(folder).glob("*.json")) for case in json.loads(file.read_text())]
    names = [case["name"] for case in cases]
    if doubles := {name for name in names if names.count(name) > 1}:
        sys.exit(f"case names used twice: {sorted(doubles)}")
    return [case for case in cases if not only or any(p in case["name"] or fnmatch.fnmatch(case["name"], p) for p in only)]


def fill(value, variables):
    """Replaces {name} in every string of a JSON value; names that are not variables stay as they are. "{broker}" alone is a number."""
    if isinstance(value, str):
        if value == "{broker}":
            return variables["broker"]
        return re.sub(r"\{(\w+)\}", lambda m: str(variables.get(m[1], m[0])), value)
    if isinstance(value, list):
        return [fill(item, variables) for item in value]
    if isinstance(value, dict):
        return {fill(key, variables): fill(item, variables) for key, item in value.items()}
    return value


# --- the wire -------------------------------------------------------------------------------------------------------

def send(server, request, headers, body=None, chunks=None):
    """One request exactly as given: no header is added but Host and the body's length. Gives status, headers, text, seconds."""
    method, target = request.split(" ", 1)
    if target.startswith("http"):
        target = urllib.parse.urlsplit(target)._replace(scheme="", netloc="").geturl()
    connection = http.client.HTTPConnection(server.netloc, timeout=120)
    started = time.monotonic()
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            for one in value if isinstance(value, list) else [value]:
                connection.putheader(name, one)
        if chunks is not None:
            connection.putheader("Transfer-Encoding", "chunked")
        elif body is not None or method in ("POST", "PUT", "PATCH"):
            connection.putheader("Content-Length", str(len(body or b"")))
        connection.endheaders()
        for chunk in chunks or []:
            connection.send(b"%x\r\n%s\r\n" % (len(chunk.encode()), chunk.encode()))
            time.sleep(0.05)
        connection.send(body or b"") if chunks is None else connection.send(b"0\r\n\r\n")
        reply = connection.getresponse()
        data = reply.read()
    finally:
        connection.close()
    if reply.getheader("Content-Encoding") == "gzip":
        data = gzip.decompress(data)
    shown = {name: reply.getheader(name) for name in HEADERS if reply.getheader(name) is not None}
    return reply.status, shown, data.decode("utf-8", "replace"), time.monotonic() - started


def parse(text):
    """A JSON text as its value, several in a row as {"stream": [...]}, anything else as {"text": ...}, nothing as None."""
    values, decoder, at = [], json.JSONDecoder(), 0
    text = text.strip()
    try:
        while at < len(text):
            value, at = decoder.raw_decode(text, at)
            values.append(value)
            at += len(text[at:]) - len(text[at:].lstrip())
    except ValueError:
        return {"text": text}
    return {"stream": values} if len(values) > 1 else values[0] if values else None


def at_path(value, path):
    """The part of a JSON value under a dotted path ("" is all of it, "data.0.name" an inner member), or None."""
    for key in path.split(".") if path else []:
        if isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict):
            value = value.get(key)
        else:
            return None
    return value


# --- one case -------------------------------------------------------------------------------------------------------

def run_step(server, step, variables):
    """Sends the step's request, again and again if it has an "until" rule. Gives status, headers, JSON value, seconds."""
    def once(request):
        filled = fill({key: step[key] for key in ("headers", "body", "chunks", "raw") if key in step}, variables)
        body = None
        if "body" in step:
            body = json.dumps(filled["body"], ensure_ascii=False, separators=(",", ":")).encode()
        elif "raw" in step:
            body = filled["raw"].encode() * step.get("times", 1)
        elif "base64" in step:
            body = base64.b64decode(step["base64"])
        status, headers, text, took = send(server, fill(request, variables), filled.get("headers", {}), body, filled.get("chunks"))
        return status, headers, parse(text), took

    time.sleep(step.get("wait", 0))
    until, deadline, records = step.get("until"), time.monotonic() + step.get("within", 30), []
    while True:
        for request in step.get("meanwhile", []):
            send(server, fill(request, variables), {})
        status, headers, value, took = once(step["request"])
        if not until:
            return status, headers, value, took
        if "records" in until:
            if not isinstance(value, list):
                return status, headers, value, took
            records += value
            for request in step.get("also", []):
                records += once(request)[2] or []
            done = len(records) >= until["records"]
            value = sorted(records, key=lambda r: (r.get("topic", ""), r.get("partition", 0), r.get("offset", 0)))
        else:
            done = status == until.get("status", status) and re.search(until.get("matches", ""), json.dumps(value))
        if done or time.monotonic() > deadline:
            return status, headers, value, took
        time.sleep(0.1)


class Normaliser:
    """Replaces what differs from run to run by names in braces."""

    def __init__(self, variables, volatile):
        self.names = {str(variables[name]): "{%s}" % name for name in volatile if variables[name]}
        self.broker = variables["broker"]

    def learn(self, value):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []:
            if isinstance(item, str) and item and key in ("consumer_id", "max_lag_consumer_id", "client_id", "max_lag_client_id"):
                self.names[item] = "{member}" if "consumer" in key else "{client}"
            elif isinstance(item, str) and key == "instance_id" and re.search(UUID, item):
                self.names[item] = "{generated}"
            self.learn(item)

    def text(self, text):
        for value in sorted(self.names, key=len, reverse=True):
            text = text.replace(value, self.names[value])
        text = re.sub(r"(brokers?[/=]|replicas?[/=])%s\b" % self.broker, r"\1{broker}", text)
        text = re.sub(UUID, "{uuid}", text)
        if re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", text):
            day = datetime.datetime.fromisoformat(text[:10]).date()
            text = "{now}" if abs((day - datetime.datetime.now(datetime.timezone.utc).date()).days) <= 1 else text
        return text

    def value(self, value, key=None):
        if isinstance(value, dict):
            return {self.text(name): self.value(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, key) for item in value]
        if key in ("host", "port") and value is not None:
            return "{%s}" % key
        if key in BROKER_MEMBERS | {"brokers"} and value == self.broker and not isinstance(value, bool):
            return "{broker}"
        return self.text(value) if isinstance(value, str) else value


def reduce_body(step, value):
    """Applies the step's "only", "unordered" and "count" rules: what other users of the same Kafka would disturb is left out."""
    for path, pattern in step.get("only", {}).items():
        part = at_path(value, path)
        if isinstance(part, dict):
            for key in [key for key in part if not re.search(pattern, key)]:
                del part[key]
        elif isinstance(part, list):
            part[:] = [item for item in part if re.search(pattern, json.dumps(item))]
    for path in step.get("unordered", []):
        part = at_path(value, path)
        if isinstance(part, list):
            part.sort(key=lambda item: json.dumps(item, sort_keys=True))
    for path in step.get("count", []):
        part = at_path(value, path)
        if isinstance(part, list):
            part[:] = ["%d items" % len(part)]
    return value


def run_case(server, case, common):
    variables, replies = dict(common), []
    variables |= {name: "%s-%s" % (case["id"], name) for name in case.get("topics", {})} | {"group": case["id"] + "-group", "id": case["id"]}
    normaliser = Normaliser(variables, [*case.get("topics", {}), "group", "id", "run", "cluster", "authority"])
    for step in case["steps"]:
        shown = {"request": step["request"]}
        try:
            status, headers, value, took = run_step(server, step, variables)
        except (OSError, http.client.HTTPException, ValueError) as error:
            replies.append(shown | {"status": 0, "headers": {}, "body": {"text": type(error).__name__}})
            continue
        for name, path in step.get("capture", {}).items():
            variables[name] = at_path(value, path)
        normaliser.learn(value)
        value = reduce_body(step, normaliser.value(value))
        if "lasts" in step:
            shown["in time"] = step["lasts"][0] <= took <= step["lasts"][1]
        replies.append(shown | {"status": status, "headers": {k: normaliser.text(v) for k, v in headers.items()}, "body": value})
    return {"case": case["name"], "steps": replies}


# --- one run --------------------------------------------------------------------------------------------------------

def topics_through_kafka(bootstrap):
    try:
        from confluent_kafka.admin import AdminClient, NewTopic
    except ImportError:
        return None
    admin = AdminClient({"bootstrap.servers": bootstrap})

    def create(topics):
        wanted = [NewTopic(name, t["partitions"], 1, config=t.get("configs", {})) for name, t in topics.items()]
        for future in admin.create_topics(wanted, operation_timeout=30).values() if wanted else []:
            future.result()

    def remove(run):
        names = [name for name in admin.list_topics(timeout=30).topics if name.startswith(run)]
        for future in admin.delete_topics(names).values() if names else []:
            future.exception()
        groups = [g.group_id for g in admin.list_consumer_groups().result().valid if g.group_id.startswith(run)]
        for future in admin.delete_consumer_groups(groups).values() if groups else []:
            future.exception()
    return create, remove


def topics_through_server(server, cluster):
    base, headers = f"/v3/clusters/{cluster}/topics", {"Content-Type": "application/json"}

    def create(topics):
        for name, t in topics.items():
            configs = [{"name": key, "value": value} for key, value in t.get("configs", {}).items()]
            body = {"topic_name": name, "partitions_count": t["partitions"], "replication_factor": 1, "configs": configs}
            status, _, text, _ = send(server, "POST " + base, headers, json.dumps(body).encode())
            if status != 201:
                sys.exit(f"cannot create topic {name}: {status} {text}")

    def remove(run):
        for topic in parse(send(server, "GET " + base, {})[2]).get("data", []):
            if topic["topic_name"].startswith(run):
                send(server, f"DELETE {base}/{topic['topic_name']}", {})
    return create, remove


def run_all(args, cases):
    server = urllib.parse.urlsplit(args.url)
    run = args.prefix + uuid.uuid4().hex[:6]
    clusters, brokers = parse(send(server, "GET /v3/clusters", {})[2]), parse(send(server, "GET /brokers", {"Accept": MEDIA["v2"]})[2])
    cluster, broker = at_path(clusters, "data.0.cluster_id") or "no-cluster", at_path(brokers, "brokers.0") or 1
    common = MEDIA | {"run": run, "cluster": cluster, "broker": broker, "c": f"/v3/clusters/{cluster}", "authority": server.netloc}
    create, remove = (args.bootstrap and topics_through_kafka(args.bootstrap)) or topics_through_server(server, cluster)
    topics = {}
    for number, case in enumerate(cases):
        case["id"] = f"{run}-{number}"
        topics |= {f"{case['id']}-{name}": t if isinstance(t, dict) else {"partitions": t} for name, t in case.get("topics", {}).items()}
    try:
        create(topics)
        order = sorted(cases, key=lambda case: not case.get("slow"))  # the slow ones first, so that they overlap with the others
        with ThreadPoolExecutor(args.jobs) as pool:
            done = {t["case"]: t for t in pool.map(lambda case: run_case(server, case, common), [c for c in order if not c.get("alone")])}
        done |= {case["name"]: run_case(server, case, common) for case in order if case.get("alone")}
    finally:
        remove(run)
    return [done[case["name"]] for case in cases]


# --- comparing ------------------------------------------------------------------------------------------------------

def differences(want, got, path="body"):
    """Yields (kind, path, wanted, got); kind is shape, value, error_code or message."""
    last = re.split(r"[.\[]", path)[-1]
    if isinstance(want, dict) and isinstance(got, dict):
        if "text" in want and "text" in got:
            want, got = {"message": want["text"]}, {"message": got["text"]}
        for key in want | got:
            if key not in want or key not in got:
                yield "shape", f"{path}.{key}", want.get(key, "(absent)"), got.get(key, "(absent)")
            else:
                yield from differences(want[key], got[key], f"{path}.{key}")
    elif isinstance(want, list) and isinstance(got, list):
        if len(want) != len(got):
            yield "value", path, want, got
        else:
            for index, pair in enumerate(zip(want, got)):
                yield from differences(*pair, f"{path}[{index}]")
    elif want != got or type(want) is not type(got):
        kind = "error_code" if last == "error_code" else "message" if last in SOFT_MEMBERS and type(want) is type(got) else \
            "value" if type(want) is type(got) else "shape"
        yield kind, path, want, got


def step_differences(want, got, planned):
    """planned: the status and error_code that the deviations file gives this step; a reply with just these is fine."""
    code = at_path(got["body"], "error_code")
    if planned and planned.get("status", got["status"]) == got["status"] and planned.get("error_code", code) == code:
        return
    if want["status"] != got["status"]:
        yield "status", "status", want["status"], got["status"]
    options = want["request"].startswith("OPTIONS")  # only Allow matters there
    for name, value in want["headers"].items():
        if options and name != "Allow":
            continue
        other = got["headers"].get(name)
        same = set(re.split(r"[,\s]+", value)) == set(re.split(r"[,\s]+", other or "")) if name == "Allow" else \
            value.replace(" ", "").lower() == (other or "").replace(" ", "").lower() if name == "Content-Type" else value == other
        if not same:
            yield "soft header" if name in SOFT_HEADERS else "header", name, value, other
    if want.get("in time") != got.get("in time"):
        yield "duration", "in time", want.get("in time"), got.get("in time")
    if not options:
        yield from differences(want["body"], got["body"])


def compare(transcript, replies, deviations, verbose):
    counts = {"same": 0, "texts differ": 0, "as planned": 0, "different": 0, "not recorded": 0}
    recorded = {t["case"]: t for t in map(json.loads, Path(transcript).read_text().splitlines())}
    for reply in replies:
        name = reply["case"]
        if name not in recorded:
            counts["not recorded"] += 1
            print(f"not recorded  {name}")
            continue
        rule = next((d for d in deviations if fnmatch.fnmatch(name, d["case"])), None)
        found = [(number, want, d) for number, (want, got) in enumerate(zip(recorded[name]["steps"], reply["steps"]), 1)
                 for d in step_differences(want, got, rule and rule.get("steps", {}).get(str(number)))]
        hard = [f for f in found if f[2][0] not in ("message", "soft header")]
        verdict = "same" if not found else "texts differ" if not hard else \
            "as planned" if rule and "steps" not in rule else "different"
        counts[verdict] += 1
        if verdict == "different" or (verbose and found):
            print(f"{verdict}  {name}" + (f"  ({rule['reason']})" if rule else ""))
            shown = None
            for number, want, (kind, path, a, b) in found if verbose else hard:
                if shown != number:
                    print(f"  {number}. {want['request']}")
                    shown = number
                a, b = (json.dumps(x, ensure_ascii=False)[:300] for x in (a, b))
                print(f"     {kind} {path if path != kind else ''}\n       - {a}\n       + {b}")
    print(", ".join(f"{what}: {count}" for what, count in counts.items()))
    return 1 if counts["different"] or counts["not recorded"] else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", nargs="?", choices=["record", "compare", "list"], default="list")
    parser.add_argument("--url", help="base URL of the server, e.g. http://127.0.0.1:8082")
    parser.add_argument("--bootstrap", help="Kafka address for creating topics (needs confluent-kafka); else the server's v3 API is used")
    parser.add_argument("--cases", default=HERE / "cases", help="folder with the case files")
    parser.add_argument("--only", action="append", help="part of a case name, or a glob; may be given several times")
    parser.add_argument("--skip-slow", action="store_true", help="leave out the cases that wait a minute for a timeout")
    parser.add_argument("--out", default="transcript.jsonl", help="record: where to write")
    parser.add_argument("--with", dest="transcript", help="compare: the transcript to compare with")
    parser.add_argument("--deviations", help="expected differences; default: deviations.json beside the cases folder")
    parser.add_argument("--jobs", type=int, default=8, help="cases at a time")
    parser.add_argument("--prefix", default="tx", help="what the names of all topics and groups start with")
    parser.add_argument("--list", action="store_true", help="show the cases and stop")
    parser.add_argument("--verbose", action="store_true", help="compare: show soft and planned differences too")
    args = parser.parse_args()
    cases = [case for case in load_cases(args.cases, args.only) if not (args.skip_slow and case.get("slow"))]
    if args.list or args.command == "list":
        for case in cases:
            print(f"{case['name']:<64} §{case['spec']:<6} {len(case['steps'])} steps")
        return 0
    if not args.url or (args.command == "compare" and not args.transcript):
        parser.error("--url is needed, and --with for compare")
    replies = run_all(args, cases)
    if args.command == "record":
        lines = [json.dumps(reply, ensure_ascii=False, separators=(",", ":")) for reply in replies]
        Path(args.out).write_text("\n".join(lines) + "\n")
        print(f"{len(replies)} cases written to {args.out}")
        return 0
    deviations = Path(args.deviations or Path(args.cases).parent / "deviations.json")
    return compare(args.transcript, replies, json.loads(deviations.read_text()) if deviations.exists() else [], args.verbose)


if __name__ == "__main__":
    sys.exit(main())
