"""The demo page's files over HTTP: a closed list, and the policy on each of them."""

from sseproof.reference_server.page import FOLDER, HEADERS, TYPES
from tests.reference_server.conftest import Serve


def test_each_file_is_served_under_the_policy(serve: Serve) -> None:
    server = serve()
    names = [path.name for path in FOLDER.iterdir()]
    assert "sse-consumer.js" in names
    for name in names:
        reply = server.client().send(f"/static/{name}", {"Connection": "close"}).reply()
        assert reply.status == 200
        assert reply.body == (FOLDER / name).read_bytes()
        told = {**HEADERS, "Content-Type": TYPES[(FOLDER / name).suffix]}
        assert {key: reply.headers.get(key.lower()) for key in told} == told


def test_no_path_names_another_file(serve: Serve) -> None:
    server = serve()
    for path in (
        "../app.py",
        "%2e%2e/app.py",
        "..%2fapp.py",
        "%2e%2e%2fapp.py",
        "none.js",
        "",
        "a/b.js",
        "page.py",
    ):
        reply = server.client().send(f"/static/{path}", {"Connection": "close"}).reply()
        assert (reply.status, reply.headers["content-type"]) == (404, "application/json"), path
