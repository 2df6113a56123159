"""Planted defects: each mode of the reference server fails exactly the claims it must, and accuses no other."""

import pytest

from tests.integration.suite import claims, directory_of, served, sseproof, verdicts_of

pytestmark = pytest.mark.integration

CLAIMS = {
    "success": "success >= 98%",
    "ttft": "ttft p95 <= 1s",
    "gap": "gap p99 <= 600ms",
    "utf8": "utf8 = 100%",
    "lost": "lost = 0",
    "doubled": "doubled = 0",
}
QUICK = [
    "--set",
    "client.timeouts.idle=1s",
    "--set",
    "client.timeouts.first_event=2s",
    "--set",
    "client.retries=1",
    "--set",
    "client.backoff=50ms",
]


@pytest.mark.parametrize(
    ("modes", "failing"),
    [
        ("", set()),
        ("cut", set()),
        ("loss", {"success", "lost"}),
        ("utf8", {"success", "utf8"}),
        ("slow", {"ttft"}),
        ("no-resume,cut", {"success", "doubled"}),
        ("duplicate,cut", {"success", "doubled"}),
        ("truncate", {"success"}),
        ("stall", {"success", "gap"}),
    ],
)
def test_each_defect_fails_exactly_what_it_must(tmp_path, modes, failing):
    """160 streams: 98 % needs 149 without a failure, so that the healthy claims can pass."""
    with served("--misbehave", modes, "--misbehave-share", "0.3") as url:
        address = f"{url}?events=14&interval_ms=20"
        options = ["--streams", "160", "--users", "12", *QUICK]
        done = sseproof("run", "--target", address, *options, *claims(*CLAIMS.values()), cwd=tmp_path)
    found = verdicts_of(directory_of(tmp_path))
    expected = {metric: "fail" if metric in failing else "pass" for metric in CLAIMS}
    assert found == expected, done.stdout + done.stderr
    assert done.returncode == (1 if failing else 0)
