"""S01: secrets, paths and stack traces in what the service says when something goes wrong."""

import re
from typing import Final

from sseproof.reports.endpoint.case import Case, Check
from sseproof.reports.endpoint.model import (
    Evidence,
    Outcome,
    bytes_at,
    failed,
    not_applicable,
    passed,
    warned,
)
from sseproof.reports.endpoint.seen import Seen
from sseproof.reports.words import count_of

TEXT_BYTES: Final = 65_536
SECRETS: Final = re.compile(
    rb"\bsk-[A-Za-z0-9_-]{16,}|\bAKIA[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{30,}|\bgh[pousr]_[A-Za-z0-9]{30,}"
    rb"|-----BEGIN [A-Z ]*PRIVATE KEY|\b[a-z][a-z0-9+]{2,20}://[^\s/:@\"']{1,64}:[^\s/@\"']{1,64}@"
)
TRACES: Final = re.compile(
    rb"Traceback \(most recent call last\)|\bFile \"[^\"\n]{1,200}\", line \d+|\n?\s+at [\w$.<>]{1,200} ?\([^()\n]{1,200}:\d+"
    rb"|\bgoroutine \d+ \[|\bpanic: |\bException in thread |\bStack trace:|\bORA-\d{5}|\bSQLSTATE\["
)
PATHS: Final = re.compile(
    rb"(?<![\w./])/(?:home|usr|var|srv|opt|root|app|etc|mnt|Users)/[\w./@-]{2,200}|\b[A-Z]:\\\\?[\w\\ .-]{3,200}"
)


def _error_texts(case: Case) -> list[tuple[Seen, int, bytes]]:
    """Every text that speaks of an error: (answer, offset in its body, bytes)."""
    texts = []
    for probed in case.capture.probes:
        seen = case.read(probed)
        if seen.status is not None and seen.status >= 400:
            texts.append((seen, 0, seen.body[:TEXT_BYTES]))
            continue
        for message in seen.messages[-50:] if seen.readable else []:
            if message.type == "error" or '"error"' in message.data[:2_000]:
                data = message.data[:TEXT_BYTES].encode("utf-8", "replace")
                texts.append((seen, max(0, message.end - len(data)), data))
    return texts


def _leaks(case: Case) -> Outcome:
    if not case.answered:
        return not_applicable("there was no answer")
    for probed in case.capture.probes:
        if probed.echoed:
            return failed(
                f"The answer to {probed.probe} holds a secret of the request in {count_of(len(probed.echoed), 'place')}.",
                "Never send a credential back.",
                Evidence(
                    text="in the answer's bytes, head included", offset=probed.echoed[0], probe=probed.probe
                ),
            )
    texts = _error_texts(case)
    if not texts:
        return passed("No error text was seen.")
    for pattern, what in ((SECRETS, "something like a secret"), (TRACES, "a stack trace")):
        for seen, at, text in texts:
            if (match := pattern.search(text)) is not None:
                # The secret itself is not repeated.
                excerpt = bytes_at(text, match.start(), "its text") if pattern is TRACES else None
                place = Evidence(
                    text="in the answer's body",
                    offset=at + match.start(),
                    probe=seen.probed.probe,
                    excerpt=None if excerpt is None else excerpt.excerpt,
                )
                return failed(
                    f"An error text holds {what}.", "Answer with a message and a code; log the rest.", place
                )
    for seen, at, text in texts:
        if (match := PATHS.search(text)) is not None:
            place = bytes_at(text, match.start(), f"in the body, from byte {at}", probe=seen.probed.probe)
            return warned(
                "An error text holds a path of the server.", "Answer with a message and a code.", place
            )
    return passed(f"{count_of(len(texts), 'error text')}, nothing internal in them.")


SAFETY: Final = (Check("S01", "leaks in error texts", _leaks),)
