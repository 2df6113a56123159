"""What a wrong value is refused with: its key and what it should be, in nobody's programming language."""

import msgspec
import pytest

from sseproof.refusals import in_plain_words, key_of
from sseproof.scenario import Scenario


@pytest.mark.parametrize(
    ("tree", "key", "words"),
    [
        ({"fault": 3}, "fault", "fault is a list of tables; write [[fault]] above each"),
        ({"fault": {"kind": "cut"}}, "fault", "fault is a list of tables; write [[fault]] above each"),
        ({"fault": [1]}, "fault", "fault is a list of tables; write [[fault]] above each"),
        ({"seed": "x"}, "seed", "seed: expected a whole number, got a text"),
        ({"load": {"rate": []}}, "load.rate", "load.rate: expected a number, got a list"),
        ({"claims": [1]}, "claims", "claims: expected a text, got a whole number"),
        ({"load": {"model": "x"}}, "load.model", "load.model: 'x' is not one of open, closed"),
        ([], "", "the whole: expected a table, got a list"),
    ],
)
def test_in_plain_words(tree, key, words):
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(tree, Scenario)
    assert key_of(caught.value) == key
    assert in_plain_words(caught.value, key, tables={"fault"}, choices=["open", "closed"]) == words
