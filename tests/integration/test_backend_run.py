"""`sseproof serve --backend` by its own command, and the suite as one of its users."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sseproof.reference_server.settings import BACKEND_RULES
from tests.integration.suite import claims, directory_of, serving, sseproof, verdicts_of

pytestmark = pytest.mark.integration

TOKEN = "ann-long-token-of-the-test"  # of a server of this test


@pytest.fixture(autouse=True)
def users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSEPROOF_TOKENS", f"ann:{TOKEN}")
    monkeypatch.setenv("ALLOW_MOCK_LLM", "1")
    for name in ("LLM_BASE_URL", "LLM_MODEL", "LLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_a_run_with_a_login_knows_what_was_meant_and_keeps_the_token_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_TOKEN", TOKEN)
    options = ("--backend", "--rate-limit", "100000", "--streams-per-user", "100")
    with serving(*options) as (url, _):
        done = sseproof(
            "run",
            "--target",
            f"{url}?events=10&interval_ms=5&first_token_ms=5",
            "--header",
            "Authorization: Bearer {env:CHAT_TOKEN}",
            "--users",
            "4",
            "--streams",
            "60",
            "--quiet",
            *claims("success >= 90%", "lost = 0", "doubled = 0"),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert verdicts_of(directory_of(tmp_path)) == {"success": "pass", "lost": "pass", "doubled": "pass"}
        refused = sseproof("run", "--target", url, "--users", "1", "--streams", "1", "--quiet", cwd=tmp_path)
        assert refused.returncode == 64, "and without the login it is told before the run"
        assert "401" in refused.stderr
    told = [done.stdout, done.stderr, refused.stdout, refused.stderr]
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) > 5
    assert not any(TOKEN in text for text in told)
    assert not any(TOKEN.encode() in content for content in kept)


@pytest.mark.parametrize(
    ("options", "environ", "words"),
    [
        (["--backend"], {"SSEPROOF_TOKENS": ""}, "A login needs tokens"),
        (["--tokens", "/nonexistent"], {}, "The tokens of /nonexistent can't be read"),
        (["--total-limit", "0s"], {}, "--total-limit is 0"),
        (["--idle-limit", "soon"], {}, "'soon' is not a duration"),
        (["--question-limit", "4001"], {}, "4001"),
        (["--rate-limit", "0"], {}, "0"),
        (["--failed-logins", "3"], {}, "--backend or --tokens FILE"),
        (["--allow-host", "http://x"], {}, "without scheme, port or *"),
    ],
)
def test_options_that_can_not_be_taken(
    tmp_path: Path, options: list[str], environ: dict[str, str], words: str
) -> None:
    done = sseproof("serve", "--port", "0", *options, cwd=tmp_path, environ=environ, limit_s=30)
    assert done.returncode == 64
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_with_nobody_there_ends_at_once() -> None:
    command = [sys.executable, "-m", "sseproof", "serve", "--backend", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "127.0.0.1" in process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "open streams" not in err
    assert "Traceback" not in err


def test_the_rules_are_those_of_the_table() -> None:
    """What can be seen at once of those that docs/server.md names; how each works is tested with the server."""
    with contextlib.ExitStack() as opened:
        url, pid = opened.enter_context(serving("--backend"))
        parts = urlsplit(url)

        def asked(query: str, path: str = parts.path, token: str = TOKEN) -> tuple[int, str]:
            """Status, and the sentence of a refusal; a stream stays open."""
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
            opened.callback(connection.close)
            connection.request("GET", f"{path}?{query}", headers={"Authorization": f"Bearer {token}"})
            reply = connection.getresponse()
            return reply.status, "" if reply.status == 200 else json.loads(reply.read())["error"]

        assert asked("", token="another-token")[0] == 401
        assert asked("", "/admin/api/chat/stream") == (403, "This path is for admins.")
        endless = "script=endless&first_token_ms=0&interval_ms=100"
        assert [asked(endless)[0] for _ in range(8)] == [200] * 8
        assert asked(endless) == (429, "Too many open streams: 8 streams are allowed at once.")
        long = f"question={'x' * 4_001}"
        assert asked(long) == (413, "The question has 4,001 characters, and 4,000 are the most.")
        sentences = {asked(long)[1] for _ in range(40)}  # some are let through, one a second
        assert "Too many requests: 60 a minute are allowed, 10 of them at once." in sentences
        os.kill(pid, signal.SIGTERM)
        while (told := asked("", "/api/v1/stream/chat"))[0] != 503:
            assert told[0] in {413, 429, 200}, told
        assert "about to stop" in told[1]


def test_what_takes_longer_is_as_the_table_says() -> None:
    table = (Path(__file__).parents[2] / "docs/server.md").read_text("utf-8")
    told = {row.split(" | ")[-1].rstrip(" |"): row for row in table.splitlines() if row.startswith("| ")}
    for option, rule, words in (
        ("`--request-limit`", "request_limit", "| 10 s for the head"),
        ("`--total-limit`", "total_limit", "| 1 h |"),
        ("`--idle-limit`", "idle_limit", "| 2 min |"),
        ("`--replay-window`, `--replays`", "replay_window", "| 10 min after"),
        ("`--drain`", "drain", "| 10 s |"),
    ):
        seconds = {"s": 1, "min": 60, "h": 3_600}[words.split(" ")[2]] * int(words.split(" ")[1])
        assert words in told[option]
        assert BACKEND_RULES[rule].seconds == seconds, option
    assert f"{BACKEND_RULES['failed_logins_per_minute']} a minute and address" in told["`--failed-logins`"]
    assert f"{BACKEND_RULES['replays']} times" in told["`--replay-window`, `--replays`"]
