"""The demo page's files over HTTP: a closed list, and the policy on each of them."""

import json
import re
from pathlib import Path

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


def test_the_page_is_at_the_root(serve: Serve) -> None:
    for settings in ({}, {"profile": "legacy"}):
        reply = serve(**settings).client().send("/", {"Connection": "close"}).reply()
        assert (reply.status, reply.body) == (200, (FOLDER / "index.html").read_bytes())
        assert {key: reply.headers.get(key.lower()) for key in HEADERS} == HEADERS


def test_the_page_learns_what_the_server_asks_for(serve: Serve, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ann:{'t' * 40}\n", "utf-8")
    tokens.chmod(0o600)
    for settings, login in (({}, False), ({"login": True, "tokens_file": str(tokens)}, True)):
        reply = serve(**settings).client().send("/page.json", {"Connection": "close"}).reply()
        assert json.loads(reply.body) == {"answers": "script", "login": login}
        assert reply.headers["content-type"] == "application/json"
        assert {key: reply.headers.get(key.lower()) for key in HEADERS} == HEADERS


def test_nothing_runs_inline_and_nothing_comes_from_elsewhere() -> None:
    """What the policy would block must not be there in the first place."""
    page = (FOLDER / "index.html").read_text("utf-8")
    assert re.findall(r"<script(?![^>]* src=)", page) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:", page) == []
    for path in FOLDER.iterdir():
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert (
            re.findall(r"https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text)
            == []
        ), path
    assert set(re.findall(r"/static/([\w.-]+)", page)) <= {path.name for path in FOLDER.iterdir()}
