"""Scenario loading: precedence, strictness, and secrets that leave the scenario before anything is written."""

from pathlib import Path

import pytest

from sseproof.rundir.errors import UsageError
from sseproof.scenario import Resolved, Scenario, leaf_keys, load_scenario, scenario_json

URL = "http://127.0.0.1:8000/stream"


def load(
    text: str | None = None, tmp_path: Path | None = None, *, environ=None, sets=(), flags=None
) -> Resolved:
    path = None
    if text is not None:
        assert tmp_path is not None
        path = tmp_path / "smoke.toml"
        path.write_text(text, "utf-8")
    return load_scenario(path, environ=environ or {}, sets=list(sets), flags=flags or {})


def refused(*args, **kwargs) -> str:
    with pytest.raises(UsageError) as caught:
        load(*args, **kwargs)
    assert caught.value.exit_code == 64
    return str(caught.value)


def test_flags_alone_are_enough():
    resolved = load(
        flags={"target": {"url": URL}, "load": {"users": 3, "duration": "5s"}, "claims": ["success>=98%"]}
    )
    assert resolved.scenario.load.users == 3
    assert resolved.scenario.load.duration.seconds == 5
    assert resolved.scenario.claims == ["success >= 98%"]
    assert resolved.scenario.name == "run"


def test_precedence_is_flag_set_environment_file_default(tmp_path):
    text = f'[target]\nurl = "{URL}"\n[load]\nusers = 1\n'
    environ = {"SSEPROOF_LOAD_USERS": "2"}
    assert load(flags={"target": {"url": URL}}).scenario.load.users == 10
    assert load(text, tmp_path).scenario.load.users == 1
    assert load(text, tmp_path, environ=environ).scenario.load.users == 2
    assert load(text, tmp_path, environ=environ, sets=["load.users=3"]).scenario.load.users == 3
    flags = {"load": {"users": 4}}
    assert load(text, tmp_path, environ=environ, sets=["load.users=3"], flags=flags).scenario.load.users == 4


def test_a_layer_replaces_values_and_keeps_their_neighbours(tmp_path):
    text = f'[target]\nurl = "{URL}"\n[client.timeouts]\nidle = "7s"\nconnect = "2s"\n'
    timeouts = load(text, tmp_path, sets=["client.timeouts.idle=9s"]).scenario.client.timeouts
    assert (timeouts.idle.seconds, timeouts.connect.seconds) == (9, 2)


def test_the_file_names_the_scenario_unless_it_says_so(tmp_path):
    assert load(f'[target]\nurl = "{URL}"\n', tmp_path).scenario.name == "smoke"
    assert load(f'name = "nightly"\n[target]\nurl = "{URL}"\n', tmp_path).scenario.name == "nightly"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[load]\nuser = 3\n", ["smoke.toml", "[load]", "'user'", "did you mean 'users'"]),
        ("[laod]\nusers = 3\n", ["smoke.toml", "'laod'", "did you mean 'load'"]),
        ("[client.timeouts]\nidel = 3\n", ["[client.timeouts]", "did you mean 'idle'"]),
        ("[load]\nzzz = 3\n", ["'zzz'", "known are"]),
        ('[load]\nusers = "many"\n', ["smoke.toml", "load.users", "expected a whole number, got a text"]),
        ("[load]\nusers = 0\n", ["load.users", "is 0"]),
        ('[load]\nduration = "5 parsecs"\n', ["load.duration", "not a duration"]),
        ('[load]\nduration = "5s"\nstreams = 5\n', ["load.streams", "exclude each other"]),
        ("load = 3\n", ["load is a table"]),
        ('[client]\nprofile = "careful"\n', ["client.profile", "careful"]),
        ('[client]\nbackoff = "9s"\n', ["client.backoff", "above"]),
        ('[client.timeouts]\nidle = "0s"\n', ["client.timeouts.idle", "is 0"]),
        ('claims = ["sucess >= 98%"]\n', ["smoke.toml", "success", "^"]),
        ("workers = 0\n", ["workers", "is 0"]),
        ("seed = -1\n", ["seed", "-1"]),
        ('name = "../x"\n', ["name", "can't name a folder"]),
        ('locustfile = "missing.py"\n', ["locustfile", "is not a file"]),
        ("this is not toml\n", ["smoke.toml", "not valid TOML"]),
    ],
)
def test_bad_values_name_file_key_and_way_out(tmp_path, text, words):
    target = f'[target]\nurl = "{URL}"\n'
    sentence = refused(text + ("" if text.startswith("this") else target), tmp_path)
    for word in words:
        assert word in sentence
    assert "Traceback" not in sentence


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ('url = "ftp://host/x"', ["not an http"]),
        ('url = "http://"', ["not an address"]),
        ('url = "http://h:99999/"', ["not an address"]),
        ('url = "http://h/a b"', ["white space"]),
        (f'url = "{URL}"\nmethod = "get it"', ["no method"]),
        (f'url = "{URL}"\nterminal = "done"', ["terminal"]),
        (f'url = "{URL}"\nsequence = "numbers"', ["sequence"]),
        (f'url = "{URL}"\ndialect = "klingon"', ["klingon"]),
        (f'url = "{URL}"\nca = "nowhere.pem"', ["not a file"]),
        (f'url = "{URL}"\nconnect_to = "nowhere"', ["HOST:PORT"]),
        (f'url = "{URL}"\n[target.headers]\n"bad name" = "x"', ["header name"]),
        (f'url = "{URL}"\n[target.headers]\nX = "a\\r\\nInjected: yes"', ["line end"]),
        (f'url = "{URL}"\n[target.headers]\nX = "env:SURELY_NOT_SET"', ["env:SURELY_NOT_SET", "export"]),
    ],
)
def test_bad_targets(tmp_path, target, words):
    sentence = refused(f"[target]\n{target}\n", tmp_path)
    for word in words:
        assert word in sentence


def test_no_target_says_what_to_give():
    assert "--target URL" in refused()


def test_a_missing_or_binary_file(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        load_scenario(tmp_path / "no.toml", environ={}, sets=[], flags={})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_scenario(binary, environ={}, sets=[], flags={})


def test_a_mistyped_variable_of_ours_is_named():
    sentence = refused(environ={"SSEPROOF_LOAD_USER": "2"}, flags={"target": {"url": URL}})
    assert "SSEPROOF_LOAD_USER" in sentence
    assert "did you mean SSEPROOF_LOAD_USERS" in sentence


def test_every_leaf_key_can_be_set_by_a_variable():
    keys = list(leaf_keys(Scenario))
    assert "client.timeouts.idle" in keys
    assert "load.users" in keys
    names = {key.upper().replace(".", "_") for key in keys}
    assert len(names) == len(keys)


@pytest.mark.parametrize(
    ("file", "sets", "flags", "streams", "duration"),
    [
        ('duration = "60s"', [], {"streams": 149}, 149, None),
        ("streams = 300", [], {"duration": "5s"}, None, "5s"),
        ("streams = 300", ["load.duration=5s"], {}, None, "5s"),
        ("", ["load.duration=5s"], {"streams": 149}, 149, None),
        ('duration = "60s"\nrate = 5', [], {"streams": 20}, 20, None),
    ],
)
def test_a_number_of_streams_or_a_duration_stands_instead_of_what_lies_below(
    tmp_path, file, sets, flags, streams, duration
):
    text = f'[target]\nurl = "{URL}"\n[load]\n{file}\n[[variant]]\nname = "one"\n'
    loaded = load(text, tmp_path, sets=sets, flags={"load": flags}).scenario.variant[0].load
    assert (loaded.streams, loaded.duration and str(loaded.duration)) == (streams, duration)


def test_a_variants_own_end_stands_instead_of_that_of_all(tmp_path):
    text = f'[target]\nurl = "{URL}"\n[load]\nduration = "60s"\n[[variant]]\nname = "one"\nload = {{ streams = 7 }}\n'
    loaded = load(text, tmp_path).scenario.variant[0].load
    assert (loaded.streams, loaded.duration) == (7, None)


@pytest.mark.parametrize("text", ["load.users", "=3", ""])
def test_set_wants_key_and_value(text):
    assert "KEY=VALUE" in refused(sets=[text], flags={"target": {"url": URL}})


def test_set_names_itself_as_the_source():
    assert "--set load.usres" in refused(sets=["load.usres=3"], flags={"target": {"url": URL}})


@pytest.mark.parametrize(
    "above", [[], ["load.users=1", "workers=2"], ["load.users=1", "workers=1", "load.streams=10"]]
)
def test_workers_may_stay_without_a_user_when_a_duration_ends_them(above):
    load(flags={"target": {"url": URL}}, sets=above)


def test_a_number_of_streams_needs_a_user_in_every_worker():
    sentence = refused(
        flags={"target": {"url": URL}, "load": {"users": 1, "streams": 10}, "workers": 2},
    )
    assert "--workers 1" in sentence
    assert "--users 2" in sentence
    assert sentence.startswith("the command line: workers is 2")


def test_a_variant_with_fewer_users_than_workers_and_a_number_of_streams(tmp_path):
    text = f"""
workers = 3
[target]
url = "{URL}"
[load]
streams = 30
users = 3
[[variant]]
name = "before"
[variant.load]
users = 2
[[variant]]
name = "after"
"""
    assert "workers is 3" in refused(text, tmp_path)


def test_literal_secrets_leave_the_scenario():
    headers = {"Authorization": "Bearer s3cr3t-value", "X-Plain": "seen", "X-Mine": "hidden-value"}
    resolved = load(
        flags={
            "target": {
                "url": "http://user:passw0rd@127.0.0.1:8000/s?api_key=k3y-value&q=hello",
                "headers": headers,
                "secret_headers": ["x-mine"],
            }
        }
    )
    written = scenario_json(resolved.scenario).decode()
    for secret in ("s3cr3t-value", "passw0rd", "k3y-value", "hidden-value"):
        assert secret not in written
        assert secret not in resolved.scenario.target.url
    assert "seen" in written
    assert "q=hello" in resolved.scenario.target.url
    assert "Bearer s3cr3t-value" in resolved.secrets.values()
    assert "k3y-value" in resolved.secrets.values()


def test_names_of_variables_stay_names(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "the-token")
    resolved = load(flags={"target": {"url": URL, "headers": {"Authorization": "env:MY_TOKEN"}}})
    assert resolved.scenario.target.headers == {"Authorization": "env:MY_TOKEN"}
    assert resolved.secrets == {}


def test_names_of_variables_stay_names_in_the_user_information_too(monkeypatch):
    """The client looks them up; encoding the name would send the name as the password."""
    monkeypatch.setenv("MY_PASSWORD", "the-password")
    url = "http://me:{env:MY_PASSWORD}@127.0.0.1:8000/s?token={env:MY_PASSWORD}"
    resolved = load(flags={"target": {"url": url}})
    assert resolved.scenario.target.url == url
    assert resolved.scenario.target.headers == {}
    assert resolved.secrets == {}
    resolved = load(flags={"target": {"url": "http://{env:MY_PASSWORD}:written@127.0.0.1:8000/s"}})
    url = resolved.scenario.target.url
    assert url == "http://{env:MY_PASSWORD}:{env:SSEPROOF_SECRET_URL_PASSWORD}@127.0.0.1:8000/s"
    assert resolved.secrets == {"SSEPROOF_SECRET_URL_PASSWORD": "written"}


VARIANTS = f"""
[target]
url = "{URL}"
[load]
users = 5
[[variant]]
name = "before"
[variant.load]
users = 3
[variant.client]
profile = "legacy"
[[variant]]
name = "after"
"""


def test_a_variant_overlays_what_the_scenario_says_for_all(tmp_path):
    before, after = load(VARIANTS, tmp_path).scenario.variant
    assert (before.load.users, after.load.users) == (3, 5)
    assert (before.client.profile, after.client.profile) == ("legacy", "resilient")
    assert (before.judged, after.judged) == (False, True), "the last one sets the exit code"


@pytest.mark.parametrize(
    "above",
    [
        {"flags": {"load": {"users": 7}}},
        {"sets": ["load.users=7"]},
        {"environ": {"SSEPROOF_LOAD_USERS": "7"}},
    ],
)
def test_what_outranks_the_file_outranks_its_variants(tmp_path, above):
    before, after = load(VARIANTS, tmp_path, **above).scenario.variant
    assert (before.load.users, after.load.users) == (7, 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[variant]]\nhop = "nginx-sse"\n', ["name of its own"]),
        ('[[variant]]\nname = "a"\n[[variant]]\nname = "a"\n', ["name of its own"]),
        ('[[variant]]\nname = "a"\nhop = "squid"\n', ["hop", "squid", "nginx-sse", "apache-flush"]),
        ('[[variant]]\nname = "a"\nloda = 3\n', ["loda", "load"]),
        ('[[variant]]\nname = "a"\njudged = true\n[[variant]]\nname = "b"\njudged = true\n', ["Only one"]),
        ('variant = "a"\n', ["[[variant]]"]),
        ('[server]\nmisbehave = "los"\n', ["los", "loss"]),
        ('[[fault]]\nkind = "cutt"\nshare = "10%"\n', ["smoke.toml", "cutt", "cut"]),
    ],
)
def test_bad_variants_and_faults(tmp_path, text, words):
    head = "" if not text.startswith("variant") else text
    tail = "" if text.startswith("variant") else text
    sentence = refused(f'{head}[target]\nurl = "{URL}"\n{tail}', tmp_path)
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("hop", "url", "words"),
    [
        ("nginx-sse", "https://127.0.0.1/x", ["hop", "https"]),
        ("nginx-routes", "http://127.0.0.1/a%20b", ["hop", "nginx-routes", "/a%20b"]),
    ],
)
def test_a_target_that_a_hop_can_not_stand_before_is_refused(tmp_path, hop, url, words):
    sentence = refused(f'hop = "{hop}"\n[target]\nurl = "{url}"\n', tmp_path)
    for word in words:
        assert word in sentence


def test_the_side_of_the_faults_is_each_variants_own(tmp_path):
    text = 'hop = "nginx-sse"\nfault_side = "service"\n[server]\n[[variant]]\nname = "a"\n'
    text += '[[variant]]\nname = "b"\nfault_side = "client"\n'
    assert [each.fault_side for each in load(text, tmp_path).scenario.variant] == ["service", "client"]


@pytest.mark.parametrize(
    "text", ['fault_side = "service"\n[server]\n', 'fault_side = "server"\nhop = "nginx-sse"\n[server]\n']
)
def test_a_side_of_no_hop_or_of_no_name_is_refused(tmp_path, text):
    assert "fault_side" in refused(text, tmp_path)


def test_a_server_of_the_run_needs_no_address(tmp_path):
    (variant,) = load('[server]\nprofile = "legacy"\n', tmp_path).scenario.variant
    assert variant.server.profile == "legacy"
    assert variant.target.url.endswith("/api/v1/stream/chat")


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ("success >= 98% in group nobody", ["in group 'nobody'", "there are: late, clean"]),
        ("success >= 98% in variant nobody", ["in variant 'nobody'", "has none: add [[variant]]"]),
        ("recovery = 100% after cut", ["after 'cut'", "there are: late, slow-first-byte"]),
        ("recovery = 100% after clean", ["after 'clean'", "there are: late"]),
        (
            "success >= 98% in phase nobody",
            ["in phase 'nobody'", "the scenario has none: add [phases]"],
        ),
    ],
)
def test_a_claim_about_a_name_that_the_scenario_lacks_is_refused(tmp_path, claim, words):
    """Which there are, or what would give it some."""
    for scope in ("in group clean", "after cut"):
        bare = refused(flags={"target": {"url": URL}, "claims": [f"success >= 98% {scope}"]})
        assert "the scenario has none:" in bare
        assert "[[fault]]" in bare
    fault = '[[fault]]\nname = "late"\nkind = "slow-first-byte"\nshare = "20%"\ndelay = "1s"\n'
    text = f"claims = ['{claim}']\n[target]\nurl = \"{URL}\"\n{fault}"
    sentence = refused(text, tmp_path)
    for word in words:
        assert word in sentence


PHASES = '[phases]\nbaseline = "4s"\nfault = "4s"\nrecovery = "2s"\n'


def test_phases_give_the_load_its_length_where_nothing_else_does(tmp_path):
    text = f'[target]\nurl = "{URL}"\n'
    found = load(text + PHASES, tmp_path)
    assert found.scenario.variant[0].load.duration.seconds == 10
    assert [(each.name, each.start_ms, each.end_ms) for each in found.phases] == [
        ("baseline", 0, 4_000),
        ("fault", 4_000, 8_000),
        ("recovery", 8_000, None),
    ]
    longer = load(text + '[load]\nduration = "12s"\n' + PHASES, tmp_path)
    assert longer.scenario.variant[0].load.duration.seconds == 12
    assert load(text + PHASES + "[load]\nstreams = 50\n", tmp_path).scenario.variant[0].load.duration is None
    assert load(text, tmp_path).phases == []


def test_the_times_of_faults_make_phases_and_a_fault_may_name_its_own(tmp_path):
    fault = '[[fault]]\nkind = "refused"\nshare = "20%"\n'
    text = f'claims = ["success >= 98% in phase recovery"]\n[target]\nurl = "{URL}"\n'
    natural = load(text + fault + 'after = "2s"\nduration = "1s"\n', tmp_path)
    assert [(each.name, each.start_ms, each.groups) for each in natural.phases] == [
        ("baseline", 0, []),
        ("fault", 2_000, ["refused"]),
        ("recovery", 3_000, []),
    ]
    stands = '[[fault]]\nkind = "latency"\nshare = "20%"\ndelay = "100ms"\n'
    with_both = text + fault + 'after = "2s"\nduration = "1s"\n' + stands
    assert "or give every fault a begin and an end in the run" in refused(with_both, tmp_path)
    given = load(with_both + 'when = { after = "1s", duration = "1s" }\n', tmp_path)
    assert [each.name for each in given.phases] == ["baseline", "fault", "recovery"]
    named = load(text + PHASES + fault + 'phase = "fault"\n', tmp_path)
    assert named.groups[0].fault.after_ms == named.groups[0].fault.duration_ms == 4_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '[load]\nduration = "9s"\n' + PHASES,
            ["the phases last 10 s together, and the load 9 s", "shorten a phase"],
        ),
        (
            "[load]\nmodel = 'closed'\nstages = [{ duration = '9s', users = 3 }]\n" + PHASES,
            ["and the load 9 s"],
        ),
        ('[load]\nwarmup = "4s"\n' + PHASES, ["load.warmup (4s) is over only after the phase 'baseline'"]),
        ('[phases]\nBase = "4s"\n', ["names 'Base'", "small letters"]),
        ('[phases]\nbase = "none"\n', ["phases", "is not a duration"]),
        ('[phases]\nbase = "0s"\n', ["a length in whole milliseconds"]),
        ('[phases]\nbase = "4s"\nbase = "5s"\n', ["is not valid TOML"]),
        ("phases = 3\n", ["phases"]),
        ('[[fault]]\nkind = "stall"\nshare = "5%"\nphase = "fault"\n', ["add a [phases] table"]),
        (
            PHASES + '[[fault]]\nkind = "stall"\nshare = "5%"\nphase = "fault"\nduration = "5s"\n',
            ["would end 9 s after the begin of load", "'fault' is over at 8 s"],
        ),
    ],
)
def test_phases_that_can_not_be_are_refused(tmp_path, text, words):
    table = f'[target]\nurl = "{URL}"\n'
    sentence = refused(text + table if text.startswith("phases") else table + text, tmp_path)
    for word in words:
        assert word in sentence
    assert sentence.count("\n") == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[abort]\nwhen = "success < 50%"\nstop = "load"\n', ["abort.when 'success < 50%' is no condition"]),
        ('[abort]\nwhen = "success < 50% for 10s"\n', ["there is no [[fault]]", 'stop = "load"']),
        ('[abort]\nwhen = "success < 50% for 10s"\nstop = "all"\n', ["'all' is not one of faults, load"]),
        ('[abort]\nwhem = "success < 50% for 10s"\n', ["'whem'", "did you mean 'when'?"]),
        ('[abort]\nstop = "load"\n', ["when"]),
        ('abort = "success < 50% for 10s"\n', ["abort is a table"]),
        (
            '[abort]\nwhen = "success < 50% for 10s"\nstop = "load"\n[load]\nduration = "9s"\n',
            ["abort.when watches 10 s, and the load lasts 9 s", "watch for less"],
        ),
        (
            '[abort]\nwhen = "success < 50% for 3s"\nstop = "load"\n[load]\nrate = 10\nstreams = 25\n',
            ["abort.when watches 3 s, and the load lasts 2.5 s"],
        ),
        (
            '[abort]\nwhen = "success < 50% for 3s"\nstop = "load"\n[load]\nstreams = 19\n',
            ["abort.when waits for 20 streams, and the load has 19", "over 5"],
        ),
    ],
)
def test_an_abort_that_can_not_be_is_refused(tmp_path, text, words):
    table = f'[target]\nurl = "{URL}"\n'
    sentence = refused(text + table if text.startswith("abort") else table + text, tmp_path)
    for word in words:
        assert word in sentence
    assert sentence.count("\n") == 0


@pytest.mark.parametrize("begins_with", ["streams = 10", "duration = '5s'"])
def test_a_load_that_goes_on_can_meet_what_it_begins_too_short_for(tmp_path, begins_with):
    """Until its claims are decided it may last for max_duration, with as many streams as come."""
    text = 'until_decided = true\nmax_duration = "{}"\nclaims = ["success >= 90%"]\n'
    text += f'[target]\nurl = "{URL}"\n[load]\nusers = 5\n{begins_with}\n'
    text += '[abort]\nwhen = "success < 50% for 10s"\nstop = "load"\n'
    assert load(text.replace("{}", "10m"), tmp_path).scenario.abort is not None
    assert "watches 10 s, and the load lasts 9 s" in refused(text.replace("{}", "9s"), tmp_path)


def test_a_phase_that_was_misspelt_is_offered(tmp_path):
    text = f"claims = ['success >= 98% in phase recovry']\n[target]\nurl = \"{URL}\"\n"
    assert "did you mean 'recovery'?" in refused(text + PHASES, tmp_path)


@pytest.mark.parametrize(
    ("claim", "there", "words"),
    [
        ("ttft-plan p95 <= 1s", "[load]\nrate = 5.0", ["ttft-plan", "--rate", "ttft-send"]),
        ("age p99 <= 1s", 'sent_at = "json:at"', ["age", "--set target.sent_at=json:FIELD"]),
        ("fanout p99 <= 1s", 'topic = "news"\nkind = "subscription"', ["fanout", "--set target.topic=NAME"]),
        ("goodput >= 9% with ttft <= 1s, age <= 1s", 'sent_at = "json:at"', ["age", "target.sent_at"]),
    ],
)
def test_a_claim_that_no_stream_can_show_is_refused(tmp_path, claim, there, words):
    text = f"claims = ['{claim}']\n[target]\nurl = \"{URL}\"\n"
    sentence = refused(text, tmp_path)
    for word in ("smoke.toml", claim, *words):
        assert word in sentence
    assert load(text + there + "\n", tmp_path).scenario.claims == [claim]
    sides = '[[variant]]\nname = "a"\n[[variant]]\nname = "b"\n'
    table = {"[load]": "[variant.load]"}.get(there.partition("\n")[0], "[variant.target]")
    with_one = f"{text}{sides}{table}\n{there.removeprefix('[load]')}\n"
    assert load(with_one, tmp_path).scenario.claims == [claim], "one side is enough"
    assert "can't be measured" in refused(with_one.replace(claim, f"{claim} in variant a"), tmp_path)


def test_a_claim_about_names_that_exist_is_taken(tmp_path):
    claims = ["success >= 98% in group clean", "success >= 98% in variant a", "recovery = 100% after cut"]
    text = f'claims = {claims}\n[target]\nurl = "{URL}"\n[[variant]]\nname = "a"\n'
    text += '[[fault]]\nname = "gone"\nkind = "cut"\nshare = "20%"\nafter_bytes = 600\n'
    assert load(text, tmp_path).scenario.claims == claims


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (
            ["target.headers.X-Count=5"],
            ["--set target.headers.X-Count: ", "expected a text, got a whole number"],
        ),
        (["target.headers=[1]"], ["--set target.headers: ", "expected a table, got a list"]),
        (["labels.x=3"], ["--set labels.x: ", "expected a text"]),
        (["target.kind=feed"], ["--set target.kind: ", "'feed' is not one of answer, subscription"]),
        (["client.on_cut=stop"], ["'stop' is not one of resume, restart, give-up"]),
    ],
)
def test_a_wrong_value_is_named_as_it_was_written(sets, words):
    sentence = refused(sets=sets, flags={"target": {"url": URL}})
    for word in words:
        assert word in sentence


def test_a_wrong_value_in_a_variant_names_the_file(tmp_path):
    text = f'[target]\nurl = "{URL}"\n[[variant]]\nname = "a"\nload = {{ users = "x" }}\n'
    assert refused(text, tmp_path).startswith(f"{tmp_path / 'smoke.toml'}: variant.load.users: ")


def test_the_authority_is_found_from_any_working_folder(tmp_path, monkeypatch):
    """The loading processes work in the run's folder: a relative name would be looked for there."""
    (tmp_path / "ca.pem").write_text("")
    monkeypatch.chdir(tmp_path)
    assert load(flags={"target": {"url": URL, "ca": "ca.pem"}}).scenario.target.ca == str(tmp_path / "ca.pem")


RAMP = '[target]\nurl = "http://127.0.0.1:8000/stream"\n[load]\nmodel = "closed"\nstages = [{ duration = "9s", users = 1, to = 5 }]\n'


@pytest.mark.parametrize(
    ("above", "expected"),
    [
        ({}, ("closed", 5, None, 1)),
        ({"environ": {"SSEPROOF_LOAD_RATE": "4"}}, ("open", 1_000, 4.0, 0)),
        ({"environ": {"SSEPROOF_LOAD_RATE": "4"}, "sets": ["load.users=3"]}, ("closed", 3, None, 0)),
        ({"sets": ["load.users=3"], "flags": {"load": {"rate": 2.0}}}, ("open", 1_000, 2.0, 0)),
        ({"flags": {"load": {"duration": "4s"}}}, ("closed", 5, None, 1)),
    ],
)
def test_what_says_the_loads_size_stands_instead_of_what_lies_below(tmp_path, above, expected):
    scenario = load(RAMP, tmp_path, **above).scenario
    found = scenario.load
    assert (found.model, found.at_once, found.rate, len(found.stages)) == expected
    assert scenario.variant[0].load == found


def test_a_variants_own_load_stands_instead_of_that_for_all(tmp_path):
    text = (
        RAMP
        + """
[[variant]]
name = "open"
[variant.load]
rate = 3
[[variant]]
name = "few"
[variant.load]
model = "closed"
users = 2
[[variant]]
name = "all"
"""
    )
    loads = [variant.load for variant in load(text, tmp_path).scenario.variant]
    assert [(each.model, each.rate, each.at_once) for each in loads] == [
        ("open", 3.0, 1_000),
        ("closed", None, 2),
        ("closed", None, 5),
    ]


@pytest.mark.parametrize(
    "load_text",
    [
        "users = 3\nrate = 5",
        "users = 3\nreplay = 'a.csv'",
        'users = 3\nstages = [{duration = "1s", users = 1}]',
    ],
)
def test_two_sizes_in_one_place_are_refused(tmp_path, load_text):
    text = f'[target]\nurl = "{URL}"\n[load]\n{load_text}\n'
    assert "load.users and load." in refused(text, tmp_path)
    variant = f'[target]\nurl = "{URL}"\n[[variant]]\nname = "a"\n[variant.load]\n{load_text}\n'
    assert "exclude each other" in refused(variant, tmp_path)


OPEN = f'[target]\nurl = "{URL}"\n[load]\n'


@pytest.mark.parametrize(
    ("load_text", "words"),
    [
        (
            'rate = 100_000\nduration = "1h"',
            "load.rate makes 360,000,000 starts, and 10,000,000 are the most",
        ),
        ("rate = 5\nstreams = 10_000_001", "load.rate makes 10,000,001 starts"),
        ('stages = [{duration = "168h", rate = 100_000}]', "load.stages makes 60,480,000,000 starts"),
        ('rate = 100_000\nduration = "101s"\narrivals = "poisson"', "load.rate makes 10,100,000 starts"),
        ('streams = 100\nstages = [{duration = "1s", rate = 3}]', "load.stages makes only 3 starts"),
        ('replay = "STARTS"\nstreams = 4', "load.streams is 4, and load.replay makes only 3 starts"),
        ('replay = "STARTS"\nwarmup = "50s"', "load.warmup (50s) is over only after the last start"),
        ('replay = "STARTS"\nstreams = 2\nwarmup = "600ms"', "load.warmup (600ms) is over only after"),
        ('rate = 3\nstreams = 10\nwarmup = "60s"', "load.warmup (1m) is over only after the last start"),
        ('rate = 1\nduration = "2s"\nwarmup = "1500ms"', "load.warmup (1.5s) is over only after"),
    ],
)
def test_a_schedule_that_cant_be_walked_or_judged_is_refused_by_arithmetic(tmp_path, load_text, words):
    (tmp_path / "starts.csv").write_text("0\n0.5\n1\n")
    text = OPEN + load_text.replace("STARTS", str(tmp_path / "starts.csv")) + "\n"
    sentence = refused(text, tmp_path)
    assert words in sentence
    assert "smoke.toml" in sentence


@pytest.mark.parametrize(
    "load_text",
    [
        'rate = 100_000\nduration = "100s"',
        "rate = 5\nstreams = 10_000_000",
        'streams = 3\nstages = [{duration = "1s", rate = 3}]',
        'replay = "STARTS"\nstreams = 3\nwarmup = "600ms"',
        'rate = 3\nstreams = 10\nwarmup = "2s"',
        'rate = 3\nstreams = 10\nwarmup = "2s"\narrivals = "poisson"',
        'rate = 0.01\nduration = "60s"\nwarmup = "10s"\narrivals = "poisson"',
        'rate = 10\nduration = "2s"\nwarmup = "1900ms"',
    ],
)
def test_a_schedule_at_its_limits_is_taken(tmp_path, load_text):
    (tmp_path / "starts.csv").write_text("0\n0.5\n1\n")
    text = OPEN + load_text.replace("STARTS", str(tmp_path / "starts.csv")) + "\n"
    assert load(text, tmp_path).scenario.load.is_open


@pytest.mark.parametrize("key", ['arrivals = "poisson"', "max_open = 3"])
@pytest.mark.parametrize("size", ["users = 3", 'stages = [{duration = "1s", users = 1}]', ""])
def test_keys_of_a_schedule_are_refused_in_a_closed_loop(tmp_path, key, size):
    name = key.split(" ", 1)[0]
    assert f"load.{name} is of an open loop's schedule" in refused(f"{OPEN}{size}\n{key}\n", tmp_path)
    variant = f'[target]\nurl = "{URL}"\n[[variant]]\nname = "a"\n[variant.load]\n{size}\n{key}\n'
    assert f"load.{name} is of an open loop's schedule" in refused(variant, tmp_path)


def test_a_closed_load_from_above_takes_the_files_schedule_with_it(tmp_path):
    text = f'{OPEN}rate = 5\narrivals = "poisson"\nmax_open = 7\n'
    assert load(text, tmp_path).scenario.load.max_open == 7
    assert load(text, tmp_path, sets=["load.rate=6"]).scenario.load.max_open == 7
    for above in ("load.users=4", 'load.stages=[{duration="1s", users=4}]'):
        assert load(text, tmp_path, sets=[above]).scenario.load.at_once == 4
    assert "load.max_open" in refused(text, tmp_path, sets=["load.users=4", "load.max_open=9"])
    flags = {"load": {"users": 4}}
    assert "--set load.max_open: load.max_open" in refused(
        text, tmp_path, sets=["load.max_open=9"], flags=flags
    )
    assert "--set load.max_open: load.max_open" in refused(
        flags={"target": {"url": URL}, **flags}, sets=["load.max_open=9"]
    )
