"""`sse-consumer.js` in a real Chromium: the conformance table in every delivery, and connections that go wrong.

The servers are scripts of exact bytes; what the page's module did is read from its own answers and from what it asked for.
"""

import base64
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.integration.pages import opened, says
from tests.integration.test_report_browser import browser  # noqa: F401  # the fixture

pytestmark = pytest.mark.integration

TABLE = Path(__file__).parents[1] / "data" / "sse" / "conformance.toml"


def stream_of(case: dict[str, Any]) -> bytes:
    return case["input"].replace("¦", "").encode("ascii").decode("unicode_escape").encode("latin-1")


def wanted_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "type": item.get("type", "message"),
            "data": item["data"],
            "id": item.get("id", ""),
            "own": item.get("own", False),
        }
        for item in case["items"]
        if "data" in item
    ]


PARSE = """
async cases => {
  const {EventStreamParser} = await import("/sse-consumer.js");
  const cut = (bytes, ...places) => [0, ...places].map((from, n) => bytes.slice(from, places[n]));
  const wrong = [];
  let deliveries = 0;
  for (const {name, stream, seed, events, id, retry} of cases) {
    const bytes = Uint8Array.from(atob(stream), char => char.charCodeAt(0));
    const size = bytes.length;
    const every = width => Array.from({length: Math.ceil(size / width)}, (_, n) => bytes.slice(n * width, (n + 1) * width));
    const ways = [[bytes], every(1), every(1).flatMap(one => [bytes.slice(0, 0), one, bytes.slice(0, 0)])];
    for (const width of [2, 3, 5, 7]) ways.push(every(width));
    for (let first = 0; first <= size; first++) {
      ways.push(cut(bytes, first));
      for (let second = first; second <= Math.min(size, 24); second++) ways.push(cut(bytes, first, second));
    }
    const wanted = JSON.stringify({events, id, retry});
    for (const way of ways) {
      const parser = new EventStreamParser({lastEventId: seed});
      const got = way.flatMap(chunk => parser.push(chunk));
      const found = JSON.stringify({events: got, id: parser.lastEventId, retry: parser.retryMs});
      deliveries++;
      if (found !== wanted) { wrong.push([name, way.map(chunk => chunk.length), found, wanted]); break; }
    }
  }
  return {wrong, deliveries};
}
"""


def test_the_conformance_table_in_every_delivery(browser: Any) -> None:  # noqa: F811
    cases = tomllib.loads(TABLE.read_text("utf-8"))["case"]
    told = [
        {
            "name": case["name"],
            "stream": base64.b64encode(stream_of(case)).decode(),
            "seed": case.get("seed", ""),
            "events": wanted_of(case),
            "id": case.get("id", ""),
            "retry": case.get("retry"),
        }
        for case in cases
    ]
    with opened(browser, says()) as (page, _, _):
        found = page.evaluate(PARSE, told)
    assert found["wrong"] == []
    assert found["deliveries"] > 50 * len(cases) > 5_000
