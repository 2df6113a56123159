"""Text from the network: nothing in it may drive a terminal, turn a line round or carry a secret."""

import json
import sys
import unicodedata
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproof.rundir.text import DETAIL_LIMIT_CHARS, SECRET_MASK, Redactor, inert, printable

BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
HARMFUL = {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}
JOINERS = set("\u200c\u200d")


def harmless(shown):
    return all(
        unicodedata.category(char) not in HARMFUL
        and (unicodedata.category(char) != "Cf" or char in JOINERS)
        and char not in BIDI
        for char in shown
    )


def test_no_character_of_unicode_gets_through_that_could_drive_a_terminal():
    for start in range(0, sys.maxunicode + 1, 4096):
        block = "".join(map(chr, range(start, min(start + 4096, sys.maxunicode + 1))))
        assert harmless(printable(block, len(block))), hex(start)


@given(st.text(st.characters(codec=None), max_size=60), st.integers(0, 70))
def test_text_is_bounded_and_harmless(text, limit):
    shown = printable(text, limit)
    assert harmless(shown)
    assert len(shown) <= 10 * limit + len("… (cut)")
    assert shown.endswith("… (cut)") == (len(text) > limit or text.endswith("… (cut)"))
    if all(char.isprintable() for char in text) and len(text) <= limit:
        assert shown == text


@given(st.binary(max_size=600), st.integers(0, 120))
def test_bytes_are_bounded_and_harmless(content, limit):
    shown = printable(content, limit)
    assert harmless(shown)
    assert shown == printable(content.decode("utf-8", "replace"), limit)


@pytest.mark.parametrize(
    "text",
    [
        "خطأ في الاتصال: انتهت المهلة",
        "שגיאה",
        "می‌خواهم",
        "क्‍ष",
        "👩‍👩‍👧‍👦 ❤️ 👍🏽",
        "é e\u0301",
        "連線錯誤",
        "no\u00a0break",
        r"C:\x",
    ],
)
def test_ordinary_text_stays_as_it_is(text):
    assert printable(text) == text
    assert printable(text.encode()) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x00\x7f\x9b", r"\x00\x7f\x9b"),
        ("abc\u202edef", r"abc\u202edef"),
        ("\u2066x\u2069\u061c", r"\u2066x\u2069\u061c"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\ufeff\u00ad\u200b", r"\ufeff\xad\u200b"),
        ("\ud800", r"\ud800"),
        ("\ue000\U000e0041\U0010ffff", r"\ue000\U000e0041\U0010ffff"),
        (b"\xff\xfeok", "\ufffd\ufffdok"),
    ],
)
def test_unsafe_characters_are_written_as_escapes(text, shown):
    assert printable(text) == shown


def test_long_text_is_cut_with_a_note():
    assert printable("x" * DETAIL_LIMIT_CHARS) == "x" * DETAIL_LIMIT_CHARS
    assert printable("x" * (DETAIL_LIMIT_CHARS + 1)) == "x" * DETAIL_LIMIT_CHARS + "… (cut)"
    assert printable("🤝" * 10, 4) == "🤝" * 4 + "… (cut)"
    assert printable(("🤝" * 10).encode(), 4) == "🤝" * 4 + "… (cut)"
    assert printable(b"x" * 10_000_000, 3) == "xxx… (cut)"


SECRET = 'k3y/with+odd "signs" é='


@pytest.mark.parametrize(
    "writing",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
    ],
)
def test_a_secret_is_found_however_it_is_written(writing):
    masked = Redactor([SECRET])(f'before "Bearer {writing}" after {writing}')
    assert masked == f'before "Bearer {SECRET_MASK}" after {SECRET_MASK}'


def test_the_value_of_a_header_is_also_found_in_parts():
    redact = Redactor(["Bearer sk-1234567890"])
    assert redact("token sk-1234567890 refused") == "token [secret] refused"
    assert redact("Bearer sk-1234567890") == "[secret]"
    assert redact("Bearer authentication is needed") == "Bearer authentication is needed"


def test_of_two_secrets_the_longer_is_masked_first():
    assert Redactor(["abcd", "abcdefgh"])("abcdefgh abcd") == "[secret] [secret]"


def test_values_too_short_to_hide_anything_are_left():
    assert Redactor(["", "a", "123"])("a 123") == "a 123"
    assert Redactor(["1234"])("1234") == "[secret]"


def test_without_secrets_nothing_changes():
    assert Redactor()("Bearer x [secret]") == "Bearer x [secret]"


@given(
    st.lists(st.text(st.characters(exclude_characters="[secrt]"), min_size=4, max_size=12), max_size=4),
    st.data(),
)
def test_no_secret_stays_in_any_text(secrets, data):
    pieces = data.draw(
        st.lists(st.sampled_from(secrets) | st.text(max_size=5) if secrets else st.text(max_size=5))
    )
    masked = Redactor(secrets)("".join(pieces))
    assert not any(secret in masked for secret in secrets)


def test_half_a_secret_at_a_cut_is_masked_too():
    redact = Redactor(["token-12345678"])
    for kept in range(4, 15):
        text = printable("x" * 50 + "token-12345678" + "y" * 50, 50 + kept)
        assert "toke" not in redact(text)
        assert redact(f"{text}; and more") == f"{redact(text)}; and more"
    assert redact("it is a toke") == "it is a toke", "only a cut hides what would have followed"
    assert redact("… (cut)") == "… (cut)"


def test_a_page_may_repeat_a_secret_in_its_own_writing():
    redact = Redactor(['a<b>&"c-secret'])
    assert redact("you sent a&lt;b&gt;&amp;&quot;c-secret.") == "you sent [secret]."
    assert redact('you sent a&lt;b&gt;&amp;"c-secret.') == "you sent [secret]."


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::x", "\\x3a:error::x"),
        ("a\n \t::set-output name=a::b", "a\n \t\\x3a:set-output name=a::b"),
        ("a ##[add-mask]7", "a #\\x23[add-mask]7"),
        ("##vso[task.complete] ##teamcity[x]", "#\\x23vso[task.complete] #\\x23teamcity[x]"),
        ("a::b, ## heading, [x] ##", "a::b, ## heading, [x] ##"),
    ],
)
def test_no_line_is_a_command_to_a_ci_server(text, shown):
    assert inert(text) == shown
    assert inert(shown) == shown
