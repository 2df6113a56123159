"""Files of claims: one a line or TOML; every mistake is told by file and line."""

import pytest

from sseproof import claims_file
from sseproof.claims_file import read_claims
from sseproof.rundir.errors import UsageError
from sseproof.scenario import load_scenario

URL = "http://127.0.0.1:9/stream"


def written(tmp_path, text, name="claims.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path):
    with pytest.raises(UsageError) as caught:
        read_claims(path)
    return str(caught.value)


LINES = """\ufeff# what we promise
success >= 98%      # of all streams

  ttft p95<=1s\t# from plan
lost = 0 in group "a # b"
utf8 = 100% in group a#b\r
"""


def test_one_claim_a_line_with_comments_and_empty_lines(tmp_path):
    path = written(tmp_path, LINES)
    assert [(each.claim.text, each.place) for each in read_claims(path)] == [
        ("success >= 98%", f"{path}, line 2"),
        ("ttft p95 <= 1s", f"{path}, line 4"),
        ('lost = 0 in group "a # b"', f"{path}, line 5"),
        ("utf8 = 100% in group a#b", f"{path}, line 6"),
    ]


def test_a_list_in_toml_keeps_its_lines(tmp_path):
    text = '# ours\nclaims = [\n  "success >= 98%", \'lost = 0\',\n  # "utf8 = 100%",\n  "gap p99 <= 1s in group \\"a b\\"",\n]\n'
    path = written(tmp_path, text, "claims.toml")
    assert [(each.claim.text, each.place) for each in read_claims(path)] == [
        ("success >= 98%", f"{path}, line 3"),
        ("lost = 0", f"{path}, line 3"),
        ('gap p99 <= 1s in group "a b"', f"{path}, line 5"),
    ]


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("success >= 98%\n\nsucess >= 98%\n", "claims.txt", ["claims.txt, line 3:", "did you mean success?", "^"]),
        ('claims = [\n"lost = 0",\n"lots = 0"]\n', "c.toml", ["c.toml, line 3:", "did you mean lost?"]),
        ("# nothing\n\n", "claims.txt", ["claims.txt", "holds no claim"]),
        ("claims = []\n", "c.toml", ["holds no claim"]),
        ("claim = ['lost = 0']\n", "c.toml", ["'claim'", "claims = […]"]),
        ("claims = 3\n", "c.toml", ["list of texts"]),
        ("claims = [3]\n", "c.toml", ["list of texts"]),
        ("claims = [\n", "c.toml", ["not valid TOML"]),
        (b"lost = 0\n\xff\n", "claims.txt", ["claims.txt, line 2, is not UTF-8"]),
        ("lost = 0\n" * (claims_file.MOST_CLAIMS + 1), "claims.txt", ["1,001 claims"]),
        (b"#" * (claims_file.MOST_FILE_BYTES + 1), "claims.txt", ["1 MiB"]),
    ],
)  # fmt: skip
def test_mistakes_name_file_line_and_way_out(tmp_path, text, name, words):
    sentence = refused(written(tmp_path, text, name))
    for word in words:
        assert word in sentence


def test_a_file_that_is_not_there(tmp_path):
    assert "can't be read" in refused(tmp_path / "nowhere.txt")


def load(tmp_path, scenario="", **flags):
    path = written(tmp_path, f'{scenario}\n[target]\nurl = "{URL}"\n', "s.toml")
    return load_scenario(path, environ={}, sets=[], flags=flags)


def test_they_stand_beside_those_of_the_scenario_and_each_counts_once(tmp_path):
    path = written(tmp_path, "lost=0\nutf8 = 100%\n")
    resolved = load(tmp_path, 'claims = ["success >= 98%", "lost = 0"]', claims_file=str(path))
    assert [claim.text for claim in resolved.claims] == ["success >= 98%", "lost = 0", "utf8 = 100%"]
    assert resolved.scenario.claims == ["success >= 98%", "lost = 0", "utf8 = 100%"]
    assert [claim.text for claim in load(tmp_path, f"claims_file = '{path}'").claims] == [
        "lost = 0",
        "utf8 = 100%",
    ]


def test_a_scope_that_the_scenario_lacks_is_told_by_line(tmp_path):
    path = written(tmp_path, "lost = 0\nlost = 0 after cut\n")
    with pytest.raises(UsageError, match="line 2: the claim"):
        load(tmp_path, claims_file=str(path))
