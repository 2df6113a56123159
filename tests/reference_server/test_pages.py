"""What pages in browsers need of the server: an origin that may read, a stream's name in the URL, another `retry:`."""

import pytest

CHAT = "/api/v1/stream/chat"
QUICK = "first_token_ms=0&interval_ms=1&events=3"
ORIGIN = "http://127.0.0.1:8080"

pytestmark = pytest.mark.integration


def test_pages_of_one_origin_may_read(serve):
    server = serve(allow_origin=ORIGIN)
    assert server.get(QUICK).headers["access-control-allow-origin"] == ORIGIN
    assert server.get("events=-1").headers["access-control-allow-origin"] == ORIGIN
    asked = (
        server.client()
        .send(
            f"{CHAT}?{QUICK}",
            {
                "Origin": ORIGIN,
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "last-event-id",
            },
            method="OPTIONS",
        )
        .reply()
    )
    assert asked.status == 204
    assert asked.headers["access-control-allow-origin"] == ORIGIN
    assert "last-event-id" in asked.headers["access-control-allow-headers"].lower()


def test_without_an_origin_no_page_may(serve):
    server = serve()
    assert "access-control-allow-origin" not in server.get(QUICK).headers
    assert server.client().send(CHAT, method="OPTIONS").reply().status == 405


def test_a_stream_is_named_in_its_address(serve):
    server = serve()
    first = server.get(f"{QUICK}&stream=page/one/7")
    (row,) = server.ended_rows("page", 1)
    assert row.truth_id == "page/one/7"
    rest = server.get(f"{QUICK}&stream=page/one/7", {"Last-Event-ID": first.events[1]["id"]})
    assert rest.numbers == [3, 4, 5]
    # Nobody continues the answer of somebody else.
    other = server.get(f"{QUICK}&stream=page/two/7", {"Last-Event-ID": first.events[1]["id"]})
    assert other.types == ["error"]


def test_a_bad_name_in_the_address_is_refused(serve):
    assert serve().get(f"{QUICK}&stream=nonsense").status == 400


@pytest.mark.parametrize(("retry_ms", "line"), [(None, None), (1_500, b"retry: 1500\n")])
def test_the_reconnection_time_is_a_setting(serve, retry_ms, line):
    body = serve(retry_ms=retry_ms).get(QUICK).body
    assert body.startswith(line) if line else b"retry:" not in body
