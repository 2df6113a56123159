"""`sseproof serve --backend` by its own command, and the suite as one of its users."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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
