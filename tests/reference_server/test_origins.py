"""Which pages may come: the table of names and sites, and over real sockets what they guard."""

import json

import pytest

from sseproof.reference_server.origins import OTHER_NAME, OTHER_SITE, Names
from sseproof.reference_server.settings import ServerSettings
from sseproof.rundir.errors import EXIT_USAGE
from tests.reference_server.upstream import TEXT, upstream

CHAT = "/api/v1/stream/chat"
FEED = "/api/v1/stream/feed"
QUICK = "first_token_ms=0&interval_ms=1&events=20"
HERE = "127.0.0.1:8000"
OTHER = "other.example:8000"
TOKEN = "ann-token-1"

NAMES = Names("Box.lan", ["Chat.example.com"], "http://desk.example:9")


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "localhost.", "a.localhost:1", "127.0.0.1", HERE, "[::1]", "[::1]:8000",
     "192.168.1.20:8000", "[fe80::1%25eth0]:80", "box.lan", "chat.example.com:443", "chat.example.com."],
)  # fmt: skip
def test_names_that_are_ours(host):
    assert NAMES.heed([host]) is None


@pytest.mark.parametrize(
    "host",
    [OTHER, "", ":8000", "localhost.other.example", "otherlocalhost", "127.0.0.1.other.example", "x.chat.example.com",
     "[other.example]", "0x7f.1", "chat.example.com, localhost", "127.0.0.1@other.example", "[]"],
)  # fmt: skip
def test_names_that_are_not(host):
    assert NAMES.heed([host]) is OTHER_NAME


def test_an_empty_origin_is_none_of_a_server_that_allows_none():
    assert Names("127.0.0.1").heed_site([HERE], "cross-site", "") is OTHER_SITE


def test_no_name_is_no_browser_and_two_are_nobody():
    assert NAMES.heed([]) is None
    assert NAMES.heed(["localhost", "localhost"]) is OTHER_NAME


@pytest.mark.parametrize(
    ("site", "origin", "refused"),
    [
        (None, None, False),
        ("none", None, False),
        ("same-origin", None, False),
        ("same-origin", "https://a-proxy-s-name.example", False),
        ("same-site", None, True),
        ("cross-site", None, True),
        ("cross-site", f"http://{HERE}", True),
        ("", None, True),
        (None, f"http://{HERE}", False),
        (None, f"https://{HERE}", False),
        (None, "http://127.0.0.1:3000", True),
        (None, "http://127.0.0.1", True),
        (None, f"ftp://{HERE}", True),
        (None, "http://other.example", True),
        (None, "http://chat.example.com", False),
        (None, "null", True),
        (None, "", True),
        ("cross-site", "http://desk.example:9", False),
        (None, "http://desk.example:90", True),
    ],
)
def test_sites(site, origin, refused):
    assert NAMES.heed_site([HERE], site, origin) is (OTHER_SITE if refused else None)


@pytest.mark.parametrize(
    "name", ["", "*", "*.example.com", "http://x", "x:8000", "-x", "x..y", "x y", "ü.example"]
)
def test_a_name_that_is_none(name):
    with pytest.raises(ValueError, match=r"without scheme, port or \*"):
        Names("127.0.0.1", [name])


def test_a_name_that_is_none_ends_the_start(start_server):
    process = start_server(ServerSettings(port=0, allow_hosts=["http://x"]))
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err.count("\n")) == (EXIT_USAGE, 1)
    assert "http://x" in err
    assert "chat.example.com" in err


@pytest.fixture(scope="module")
def model():
    with upstream() as running:
        yield running


def refusal(reply):
    for each in (OTHER_NAME, OTHER_SITE):
        if (reply.status, json.loads(reply.body)) == (each.status, {"error": each.sentence}):
            return each
    raise AssertionError(reply)


def asked(server, host, headers=(), path=f"{CHAT}?question=whole", **options):
    client = server.client()
    client.send(path, {"Host": host, "Connection": "close", **dict(headers)}, **options)
    return client.reply()


def errors(server, reason):
    text = asked(server, HERE, path="/metrics").body.decode()
    line = f'sse_server_errors_total{{endpoint="{CHAT}",reason="{reason}"}} '
    return next((float(each.removeprefix(line)) for each in text.splitlines() if each.startswith(line)), 0)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_page_of_another_name_or_site_starts_an_answer(serve, model, method):
    server = serve(answers="upstream", environ=model.environ, allow_hosts=["chat.example.com"])
    body = {"body": b'{"question":"whole"}'} if method == "POST" else {}
    calls, named, sited = len(model.calls), errors(server, "other-name"), errors(server, "other-site")
    assert refusal(asked(server, OTHER, method=method, **body)) is OTHER_NAME
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://other.example"}, {"Origin": "null"}):
        assert refusal(asked(server, HERE, headers, method=method, **body)) is OTHER_SITE
    assert (errors(server, "other-name") - named, errors(server, "other-site") - sited) == (1, 3)
    assert len(model.calls) == calls, "nothing was asked for, or paid"
    for host, headers in (
        (HERE, {}),
        ("localhost", {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}),
        ("chat.example.com", {"Sec-Fetch-Site": "none"}),
    ):
        assert asked(server, host, headers, method=method, **body).text == TEXT
    assert len(model.calls) == calls + 3


def test_a_body_of_another_site_is_not_waited_for(serve, model):
    server = serve(answers="upstream", environ=model.environ, allow_hosts=["chat.example.com"])
    client = server.client()
    client.send(CHAT, {"Host": HERE, "Origin": "null", "Content-Length": "10000"}, method="POST")
    assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("path", ["/witness", "/metrics"])
def test_no_page_of_another_name_reads_what_loopback_is_told(serve, path):
    server = serve()
    server.stream("named/-/1", QUICK)
    reply = asked(server, OTHER, path=path)
    assert refusal(reply) is OTHER_NAME
    assert b"named" not in reply.body
    assert asked(server, HERE, path=path).status == 200
    assert asked(server, "localhost:1", path=path).status == 200


def test_metrics_for_everybody_go_by_any_name(serve):
    server = serve(metrics_from="anywhere")
    assert asked(server, OTHER, path="/metrics").status == 200


def test_scripted_answers_go_by_any_name(serve):
    """A proxy may call the service what it wants: nothing is to be had there but made-up text."""
    server = serve()
    for path in (f"{CHAT}?{QUICK}", "/api/v1/stream/health", "/"):
        assert asked(server, OTHER, {"Sec-Fetch-Site": "cross-site"}, path=path).status == 200


def test_a_login_keeps_other_pages_out_by_itself(serve, model):
    server = serve(answers="upstream", environ=model.environ, login=True, tokens=f"ann:{TOKEN}")
    token = {"Authorization": f"Bearer {TOKEN}", "Sec-Fetch-Site": "cross-site"}
    assert asked(server, OTHER, {"Sec-Fetch-Site": "cross-site"}).status == 401
    assert asked(server, OTHER, token).text == TEXT
    assert asked(server, OTHER, token, path="/witness").status == 200
