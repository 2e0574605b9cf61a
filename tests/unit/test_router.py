"""The router: kafka-rest-http.md §3.1 and the paths that the live proxy was seen to accept or refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kafka_gateway.errors import BadRequest, MethodNotAllowed, NoRoute, ServiceError
from kafka_gateway.router import Match, Route, RouteClash, Router, decode_segment

V1_PATHS = {
    "/": "GET POST",
    "/brokers": "GET",
    "/topics": "GET",
    "/topics/{topic}": "GET POST",
    "/topics/{topic}/partitions": "GET",
    "/topics/{topic}/partitions/{partition:int}": "GET POST",
    "/topics/{topic}/partitions/{partition:int}/messages": "GET",
    "/consumers/{group}": "POST",
    "/consumers/{group}/instances/{instance}": "DELETE",
    "/consumers/{group}/instances/{instance}/offsets": "POST",
    "/consumers/{group}/instances/{instance}/topics/{topic}": "GET",
}
V2_PATHS = {
    "/": "GET POST",
    "/brokers": "GET",
    "/topics": "GET",
    "/topics/{topic}": "GET POST",
    "/topics/{topic}/partitions": "GET",
    "/topics/{topic}/partitions/{partition:int}": "GET POST",
    "/topics/{topic}/partitions/{partition:int}/offsets": "GET",
    "/consumers/{group}": "POST",
    "/consumers/{group}/instances/{instance}": "DELETE",
    "/consumers/{group}/instances/{instance}/subscription": "GET POST DELETE",
    "/consumers/{group}/instances/{instance}/offsets": "GET POST",
    "/consumers/{group}/instances/{instance}/records": "GET",
}
V3_PATHS = {
    "/v3/clusters": "GET",
    "/v3/clusters/{cluster_id}": "GET",
    "/v3/clusters/{cluster_id}/acls": "GET POST DELETE",
    "/v3/clusters/{cluster_id}/acls:batch": "POST",
    "/v3/clusters/{cluster_id}/brokers/-/configs": "GET",
    "/v3/clusters/{cluster_id}/brokers/{broker_id:int}/configs": "GET",
    "/v3/clusters/{cluster_id}/brokers/{broker_id:int}/configs/{name}": "GET PUT DELETE",
    "/v3/clusters/{cluster_id}/brokers/{broker_id:int}/configs:alter": "POST",
    "/v3/clusters/{cluster_id}/topics": "GET POST",
    "/v3/clusters/{cluster_id}/topics/{topic_name}": "GET PATCH DELETE",
    "/v3/clusters/{cluster_id}/topics/{topic_name}/configs": "GET",
    "/v3/clusters/{cluster_id}/topics/-/configs": "GET",
    "/v3/clusters/{cluster_id}/topics/{topic_name}/configs/{name}": "GET PUT DELETE",
    "/v3/clusters/{cluster_id}/topics/{topic_name}/configs:alter": "POST",
    "/v3/clusters/{cluster_id}/topics/-/configs:alter": "POST",
    "/v3/clusters/{cluster_id}/topics/{topic_name}/partitions/{partition_id:int}/reassignment": "GET",
    "/v3/clusters/{cluster_id}/topics/{topic_name}/partitions/-/reassignment": "GET",
    "/v3/clusters/{cluster_id}/topics/-/partitions/-/reassignment": "GET",
    "/v3/clusters/{cluster_id}/topics/{topic_name}/records": "POST",
    "/v3/clusters/{cluster_id}/topics/{topic_name}/records:batch": "POST",
}


def handler() -> None: ...


def routes_of(generation: str, paths: Mapping[str, str]) -> list[Route]:
    return [
        Route(method, template, handler, generation=generation)
        for template, methods in paths.items()
        for method in methods.split()
    ]


ROUTES = [*routes_of("v1", V1_PATHS), *routes_of("v2", V2_PATHS), *routes_of("v3", V3_PATHS)]
ROUTER = Router(ROUTES)


def template_of(match: Match) -> str:
    (template,) = {route.template for route in match.routes.values()}
    return template


# --- what matches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.generation} {route.method} {route.template}")
def test_every_template_matches_its_own_expansion(route: Route) -> None:
    values = {name: 7 if kind else f"a {name}/é" for name, kind in re.findall(r"\{(\w+)(:int)?\}", route.template)}
    path = re.sub(r"\{(\w+)(:int)?\}", lambda found: quote(str(values[found[1]]), safe=""), route.template)
    match = ROUTER.match(route.method, path)
    assert match.routes[route.generation] is route
    assert match.params == values


@pytest.mark.parametrize(
    ("method", "path", "generations"),
    [
        ("GET", "/topics/t", ["v1", "v2"]),
        ("DELETE", "/consumers/g/instances/i", ["v1", "v2"]),
        ("GET", "/consumers/g/instances/i/offsets", ["v2"]),  # a shared path, but the method is v2's alone
        ("GET", "/topics/t/partitions/0/messages", ["v1"]),
        ("GET", "/consumers/g/instances/i/records", ["v2"]),
        ("GET", "/v3/clusters", ["v3"]),
    ],
)
def test_generations(method: str, path: str, generations: list[str]) -> None:
    assert list(ROUTER.match(method, path).routes) == generations


C = "/v3/clusters/c"


@pytest.mark.parametrize(
    ("method", "path", "template", "params"),
    [
        ("GET", f"{C}/topics/-/configs", "topics/-/configs", {}),
        ("GET", f"{C}/topics/%2D/configs", "topics/{topic_name}/configs", {"topic_name": "-"}),
        ("POST", f"{C}/topics/-/configs:alter", "topics/-/configs:alter", {}),
        ("POST", f"{C}/topics/t/configs:alter", "topics/{topic_name}/configs:alter", {"topic_name": "t"}),
        # a literal that leads nowhere gives way: "-" is a topic's name here
        ("GET", f"{C}/topics/-", "topics/{topic_name}", {"topic_name": "-"}),
        ("GET", f"{C}/topics/-/configs/x", "topics/{topic_name}/configs/{name}", {"topic_name": "-", "name": "x"}),
        ("POST", f"{C}/topics/-/records:batch", "topics/{topic_name}/records:batch", {"topic_name": "-"}),
        ("GET", f"{C}/topics/-/partitions/-/reassignment", "topics/-/partitions/-/reassignment", {}),
        (
            "GET",
            f"{C}/topics/-/partitions/0/reassignment",
            "topics/{topic_name}/partitions/{partition_id:int}/reassignment",
            {"topic_name": "-", "partition_id": 0},
        ),
        ("GET", f"{C}/brokers/-/configs", "brokers/-/configs", {}),
        ("GET", f"{C}/brokers/1/configs", "brokers/{broker_id:int}/configs", {"broker_id": 1}),
    ],
)
def test_literals_beat_variables(method: str, path: str, template: str, params: dict[str, str | int]) -> None:
    match = ROUTER.match(method, path)
    assert template_of(match) == f"/v3/clusters/{{cluster_id}}/{template}"
    assert match.params == {"cluster_id": "c", **params}


def test_integers_beat_texts_and_other_methods_fall_through() -> None:
    def named(method: str, template: str) -> Route:
        return Route(method, template, handler)

    text, integer, literal = named("GET", "/a/{x}/b"), named("GET", "/a/{n:int}/b"), named("PUT", "/a/7/b")
    for routes in ([text, integer, literal], [literal, integer, text]):
        router = Router(routes)
        assert router.match("GET", "/a/7/b") == Match({"": integer}, {"n": 7})
        assert router.match("GET", "/a/x/b") == Match({"": text}, {"x": "x"})
        assert router.match("GET", "/a/99999999999/b") == Match({"": text}, {"x": "99999999999"})
        assert router.match("PUT", "/a/7/b") == Match({"": literal}, {})
        assert router.allowed("/a/7/b") == ("GET", "HEAD", "OPTIONS", "PUT")
        assert router.allowed("/a/8/b") == ("GET", "HEAD", "OPTIONS")


def test_an_integer_that_leads_nowhere_gives_way() -> None:
    integer, text = Route("GET", "/a/{n:int}/b", handler), Route("GET", "/a/{x}/c", handler)
    assert Router([integer, text]).match("GET", "/a/7/c") == Match({"": text}, {"x": "7"})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("0", 0), ("00", 0), ("+0", 0), ("-0", 0), ("-1", -1), ("+7", 7), ("%30", 0), ("%2B1", 1)),
        *(("2147483647", 2147483647), ("-2147483648", -2147483648), ("000000000000001", 1)),
        *(("0" * 5000, 0), ("-" + "0" * 5000 + "1", -1)),  # int() alone would refuse so many digits
        *((text, None) for text in ("x", "1.5", "", "+", "-", "--1", "+-1", "1_0", " 1", "1%20", "0x1", "٣", "%C2%B2")),
        *((text, None) for text in ("2147483648", "-2147483649", "99999999999", "9" * 5000, "-")),
    ],
)
def test_integer_variables(text: str, number: int | None) -> None:
    path = f"/topics/t/partitions/{text}"
    if number is not None:
        assert ROUTER.match("GET", path).params == {"topic": "t", "partition": number}
    elif text:
        with pytest.raises(NoRoute):
            ROUTER.match("GET", path)
        with pytest.raises(NoRoute):  # not a 405: that path does not exist
            ROUTER.match("PATCH", path)


def test_generations_may_name_variables_differently() -> None:
    one, two = Route("GET", "/t/{topic}", handler, generation="v1"), Route("GET", "/t/{name}", handler, generation="v2")
    match = Router([one, two]).match("GET", "/t/x")
    assert match.routes == {"v1": one, "v2": two}
    assert match.params == {"topic": "x", "name": "x"}


# --- paths that the live proxy was asked for: cases v2.path.*, v2.topics.get-bad-name, … -----------------------------


@pytest.mark.parametrize(
    ("path", "topic"),
    [
        ("/topics/t", "t"),
        ("/topics/t/", "t"),
        ("/topics/a%20b", "a b"),
        ("/topics/a b", "a b"),
        ("/topics/a+b", "a+b"),
        ("/topics/a%2Fb", "a/b"),
        ("/topics/a%2fb", "a/b"),
        ("/topics/t%2Fpartitions", "t/partitions"),
        ("/topics/a%252Fb", "a%2Fb"),  # decoded once
        ("/topics/%25zz", "%zz"),
        ("/topics/%C3%A9", "é"),
        ("/topics/é", "é"),  # over an envelope
        ("/topics/é%C3%A9", "éé"),
        ("/topics/%F0%9F%98%80", "😀"),
        ("/topics/..", ".."),
        ("/topics/.", "."),
        ("/topics/...", "..."),
        ("/topics/..%2F..", "../.."),
        ("/topics/t;a=b", "t;a=b"),
        ("/topics/t:x@y!$&'()*,=~", "t:x@y!$&'()*,=~"),
        ("/topics/{topic}", "{topic}"),
        ("/topics/a%3Fb%23c", "a?b#c"),
        ("http://host/topics/t", "t"),
        ("HTTPS://user@host:8082/topics/t/", "t"),
    ],
)
def test_topic_in_path(path: str, topic: str) -> None:
    match = ROUTER.match("GET", path)
    assert template_of(match) == "/topics/{topic}"
    assert match.params == {"topic": topic}


@pytest.mark.parametrize("path", ["/", "http://host", "http://host/"])
def test_root(path: str) -> None:
    assert template_of(ROUTER.match("GET", path)) == "/"


@pytest.mark.parametrize("path", ["/brokers/", "/topics/", "/topics/t/partitions/", "/topics/t/partitions/0/"])
def test_one_trailing_slash(path: str) -> None:
    assert template_of(ROUTER.match("GET", path))


@pytest.mark.parametrize(
    "path",
    [
        *("//", "//topics", "/topics//", "/topics//t", "/topics/t//partitions", "/topics/t/partitions//", "/none//x"),
        *("/topics/%zz", "/topics/%", "/topics/%4", "/topics/a%", "/topics/%+1", "/topics/% 1", "/topics/%0x41"),
        *("/topics/%00", "/topics/a%0Ab", "/topics/%1f", "/topics/%7F", "/topics/a\nb", "/topics/\0", "/topics/\x7f"),
        *("/topics/%FF", "/topics/%C3", "/topics/%C3x", "/topics/%C0%AF", "/topics/%ED%A0%80", "/topics/\udcff"),
        *("/topics/\udcff%20", "/topics/é%FF", "/%zz", "/none/%FF"),
        *("/..", "/../", "/../topics", "/../topics/t/partitions", "/topics/../../x", "/./../x", "/topics/t/../../../x"),
        *("/topics/%2E%2E", "/topics/%2e", "/topics/.%2E"),
        *("", "topics", "*", "?", "host:80", "ftp://host/topics", "http:///topics", "http://", "://host/topics"),
        *("http://host//topics", "http://host/../topics"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "FOO"])
def test_broken_paths(method: str, path: str) -> None:
    with pytest.raises(BadRequest):
        ROUTER.match(method, path)


@pytest.mark.parametrize(
    "path",
    [
        *("/none", "/Topics", "/TOPICS/t", "/brokers/1", "/*", "/topics/t/none", "/topics/t/partitions/0/offsets/x"),
        *("/%74opics/t/partitions", "/topics/t/%70artitions", "/topics%2Ft", f"{C}/topics/t/records%3Abatch"),
        *(
            "/topics/./t/partitions",
            "/brokers/../topics/t/partitions",
            "/topics;a=b/t/partitions",
            "/topics/../brokers",
        ),
        *(
            "/consumers",
            "/consumers/g/instances",
            "/v3",
            "/v2/topics",
            f"{C}/brokers/x/configs",
            f"{C}/topics/t/x:alter",
        ),
        "/" + "a/" * 5000,
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "FOO"])
def test_unknown_paths(method: str, path: str) -> None:
    with pytest.raises(NoRoute):
        ROUTER.match(method, path)
    assert ROUTER.allowed(path) == ()


# --- methods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/", "GET HEAD OPTIONS POST"),
        ("/topics", "GET HEAD OPTIONS"),
        ("/topics/t", "GET HEAD OPTIONS POST"),
        ("/consumers/g", "OPTIONS POST"),
        ("/consumers/g/instances/i", "DELETE OPTIONS"),
        ("/consumers/g/instances/i/offsets", "GET HEAD OPTIONS POST"),
        ("/consumers/g/instances/i/subscription", "DELETE GET HEAD OPTIONS POST"),
        (f"{C}/topics/t", "DELETE GET HEAD OPTIONS PATCH"),
        (f"{C}/topics/-/configs:alter", "OPTIONS POST"),
    ],
)
def test_methods(path: str, allow: str) -> None:
    methods = tuple(allow.split())
    assert ROUTER.allowed(path) == methods
    assert ROUTER.match("OPTIONS", path) == Match({}, {}, methods)
    for method in ("TRACE", "PROPFIND", "FOO", "get", "", "options"):
        with pytest.raises(MethodNotAllowed) as caught:
            ROUTER.match(method, path)
        assert caught.value.allow == methods
        assert caught.value.headers == (("Allow", ", ".join(methods)),)
    if "GET" in methods:
        assert ROUTER.match("HEAD", path) == ROUTER.match("GET", path)
    else:
        with pytest.raises(MethodNotAllowed):
            ROUTER.match("HEAD", path)


def test_server_as_a_whole() -> None:
    assert ROUTER.match("OPTIONS", "*").allow == ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
    assert Router([]).match("OPTIONS", "*") == Match({}, {}, ("OPTIONS",))


def test_routes_of_their_own_for_head_and_options() -> None:
    get, head, options = (Route(method, "/x", handler) for method in ("GET", "HEAD", "OPTIONS"))
    router = Router([get, head, options])
    assert router.match("HEAD", "/x").routes == {"": head}
    assert router.match("OPTIONS", "/x").routes == {"": options}
    assert router.allowed("/x") == ("GET", "HEAD", "OPTIONS")


def test_default_message() -> None:
    for error, method, path in ((NoRoute, "GET", "/none"), (MethodNotAllowed, "PUT", "/topics")):
        with pytest.raises(error) as caught:
            ROUTER.match(method, path)
        assert caught.value.message == error.text


# --- building --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [("/topics", "/topics"), ("/t/{a}", "/t/{b}"), ("/t/{a:int}/x", "/t/{b:int}/x"), ("/", "/")],
)
def test_clash_names_both_owners(first: str, second: str) -> None:
    routes = [Route("GET", first, handler, owner="alpha"), Route("GET", second, handler, owner="beta")]
    with pytest.raises(RouteClash, match=r"(?s)'beta'.*'alpha'"):
        Router(routes)


def test_no_clash() -> None:
    Router(
        [
            Route("GET", "/t/{a}", handler),
            Route("POST", "/t/{a}", handler),
            Route("GET", "/t/{a:int}", handler),
            Route("GET", "/t/a", handler),
            Route("GET", "/t/{a}", handler, generation="v2"),
        ]
    )


def test_one_name_for_two_segments() -> None:
    routes = [
        Route("GET", "/{a}/{b}", handler, generation="v1", owner="alpha"),
        Route("GET", "/{b}/{a}", handler, generation="v2", owner="beta"),
    ]
    with pytest.raises(RouteClash, match="'alpha' and 'beta'"):
        Router(routes)


@pytest.mark.parametrize(
    "template",
    [
        "",
        "topics",
        "/topics/",
        "//",
        "/a//b",
        "/{}",
        "/{a:long}",
        "/{a:}",
        "/{a b}",
        "/{a",
        "/a}",
        "/x{a}",
        "/{a}/{a}",
        "/%41",
    ],
)
def test_bad_templates(template: str) -> None:
    with pytest.raises(RouteClash, match="'gamma' is not a template"):
        Router([Route("GET", template, handler, owner="gamma")])


# --- properties ------------------------------------------------------------------------------------------------------

_controls = "".join(map(chr, [*range(0x20), 0x7F]))
_names = st.text(st.characters(exclude_characters=_controls, exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name not in (".", "..")
)
_topics = st.from_regex(r"[a-zA-Z0-9._-]{1,249}", fullmatch=True)


@given(_topics | _names)
@example("%41")
@example("a/b")
@example("..")
def test_names_survive(name: str) -> None:
    assert decode_segment(quote(name, safe="")) == name
    assert ROUTER.match("GET", "/topics/" + quote(name, safe="")).params == {"topic": name}


@given(_names)
def test_names_survive_with_every_byte_escaped(name: str) -> None:
    escaped = "".join(f"%{byte:02x}" for byte in name.encode())
    assert ROUTER.match("POST", f"/consumers/{escaped}").params == {"group": name}


_pieces = st.sampled_from(
    [
        *("/", "//", "topics", "t", "partitions", "0", "v3", "clusters", "-", "configs:alter", "..", ".", "%", "%2F"),
        *("%FF", "%00", "%zz", "é", "\udcff", "\n", "?", "#", ";", "*", "http://", "h", ":", "consumers", "instances"),
    ]
)
_garbage = st.text(max_size=20).map("/".__add__) | st.lists(_pieces, max_size=10).map("".join) | st.text(max_size=20)
_methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "FOO"])


def _outcome(router: Router, method: str, path: str) -> Match | type[ServiceError]:
    try:
        return router.match(method, path)
    except ServiceError as error:
        return type(error)


@given(_methods, _garbage)
def test_garbage_is_answered_or_refused(method: str, path: str) -> None:
    outcome = _outcome(ROUTER, method, path)
    if isinstance(outcome, Match):
        assert outcome.routes or method == "OPTIONS"
    else:
        assert outcome in (BadRequest, NoRoute, MethodNotAllowed)


# A second router, as plain as can be: every template against every path. Broken paths have their tests above.

_segments = ["a", "b", "-", "0", "07", "-1", "x:y", "%61", "%2D", "99999999999", "%C3%A9"]
_template_segments = ["a", "b", "-", "0", "x:y", "{v}", "{n:int}"]


def _fits(template: str, path: str) -> tuple[list[int], dict[str, str | int]] | None:
    """How literal each segment is (0 literal, 1 integer, 2 text), and the variables; None if it does not fit."""
    ranks: list[int] = []
    params: dict[str, str | int] = {}
    wanted, given_ = template.strip("/").split("/"), path.strip("/").split("/")
    if len(wanted) != len(given_):
        return None
    for expected, segment in zip(wanted, given_, strict=True):
        text = unquote(segment)
        if expected == segment:
            ranks.append(0)
        elif expected.endswith(":int}") and re.fullmatch("[+-]?[0-9]+", text) and -(2**31) <= int(text) < 2**31:
            ranks.append(1)
            params[expected[1:-5]] = int(text)
        elif expected.startswith("{") and not expected.endswith(":int}"):
            ranks.append(2)
            params[expected[1:-1]] = text
        else:
            return None
    return ranks, params


def _reference(routes: list[Route], method: str, path: str) -> Match | type[ServiceError]:
    fitting = [(fit, route) for route in routes if (fit := _fits(route.template, path)) is not None]
    if not fitting:
        return NoRoute
    for (ranks, params), _ in sorted(fitting, key=lambda each: each[0][0]):
        peers = [other for (other_ranks, _), other in fitting if other_ranks == ranks]
        for wanted in (method, "GET") if method == "HEAD" else (method,):
            found = {other.generation: other for other in peers if other.method == wanted}
            if found:
                return Match(found, params)
    if method != "OPTIONS":
        return MethodNotAllowed
    allow = {"OPTIONS", *(route.method for _, route in fitting)}
    return Match({}, {}, tuple(sorted(allow | ({"HEAD"} if "GET" in allow else set()))))


def _distinct_names(segments: list[str]) -> str:
    names = (segment.replace("v", f"v{place}").replace("n:", f"n{place}:") for place, segment in enumerate(segments))
    return "/" + "/".join(names)


_templates = st.lists(st.sampled_from(_template_segments), min_size=1, max_size=3).map(_distinct_names)
_routes = st.builds(
    Route,
    st.sampled_from(["GET", "POST", "HEAD"]),
    _templates,
    st.just(handler),
    generation=st.sampled_from(["v1", "v2"]),
)


@given(
    st.lists(_routes, max_size=12, unique_by=lambda route: (route.method, route.template, route.generation)),
    _methods,
    st.lists(st.sampled_from(_segments), min_size=1, max_size=3).map(lambda segments: "/" + "/".join(segments)),
    st.sampled_from(["", "/"]),
)
def test_agrees_with_a_plain_matcher(routes: list[Route], method: str, path: str, slash: str) -> None:
    assert _outcome(Router(routes), method, path + slash) == _reference(routes, method, path)
