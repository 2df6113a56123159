"""The command line: `sseproof demo`, `run`, `worker`, `judge`, `compare`, `runs`, `check`, `mark`, `serve` and so on.

Rules (design.md "Commands"):
- Every command has --help with an example, and --json where a program may read the answer.
- Standard output is the answer, standard error is progress and log.
- Errors are one sentence that says what to do, with exit code 64 (input) or 70 (the suite); never a traceback for bad
  input. click's own usage code is 2, which is ours for "unknown": it becomes 64.
- Nothing heavy is imported before a command needs it; `sseproof --help` stays light.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from sseproof.check_commands import body_of
from sseproof.rundir.errors import EXIT_INTERRUPTED, EXIT_RIG, EXIT_USAGE, SuiteError, UsageError

if TYPE_CHECKING:
    from sseproof.experiment import RunResult
    from sseproof.outputs import Outputs

SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
TRACE_VARIABLE: Final = "SSEPROOF_TRACE"


def main() -> NoReturn:
    """The console script."""
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: list[str]) -> int:
    """Runs one command line and gives its exit code."""
    try:
        code = cli.main(args=arguments, prog_name="sseproof", standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _complain(error.format_message(), EXIT_USAGE)
    except SuiteError as error:
        return _complain(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _complain("Interrupted.", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output left; that is its right and no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the last line of defence: a sentence and 70, never a traceback
        if os.environ.get(TRACE_VARIABLE):
            raise
        return _complain(
            f"sseproof itself broke ({type(error).__name__}: {error}); "
            f"set {TRACE_VARIABLE}=1 to see where, and please report it.",
            EXIT_RIG,
        )
    return code if isinstance(code, int) else 0


def _complain(sentence: str, code: int) -> int:
    from sseproof.rundir.text import inert, printable

    for line in sentence.splitlines() or [sentence]:
        click.echo(inert(printable(line, 2_000)), err=True)
    return code


@click.group(context_settings=SETTINGS, no_args_is_help=False, invoke_without_command=True)
@click.version_option(package_name="sseproof", prog_name="sseproof")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Proves or refutes what a Server-Sent Events service promises.

    Makes load, measures every stream from outside, and answers each claim with pass, fail or unknown,
    and the count behind it.

    \b
    Example, in two terminals:
      sseproof serve
      sseproof run --target http://127.0.0.1:8000/api/v1/stream/chat \\
        --users 50 --duration 10s --claim "success >= 98%" --claim "ttft p95 <= 1s"

    \b
    Exit codes: 0 every claim passes, 1 some claim fails, 2 none fails but some are unknown,
    64 bad usage or input, 70 the suite itself broke, 130/143 interrupted.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--json", "as_json", is_flag=True, help="Print the answer as JSON on standard output."
    )(command)


def _seed_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--seed", type=int, metavar="N", help="Reproduces the inputs of a run; ends its folder's name."
    )(command)


def _run_folder_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--out", metavar="DIR", help="Folder of run directories (default: runs).")(command)


def _toxiproxy_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--toxiproxy", metavar="PATH|URL", help="A Toxiproxy server, instead of the one we find or build."
    )(command)


def _on_unknown_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--on-unknown",
        type=click.Choice(["fail", "warn"]),
        help="warn: unknown claims do not set exit code 2.",
    )(command)


def _out_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--out",
        default=Path("runs"),
        show_default=True,
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Folder of runs.",
    )(command)


def _metrics_port_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--metrics-port",
        type=click.IntRange(0, 65535),
        metavar="PORT",
        help="Answer a Prometheus on loopback while it lasts; 0 takes a free port.",
    )(command)


def _say_answer(answer: Any, text: str | None) -> None:
    """The answer of a command as text, or as JSON where that is None."""
    from sseproof.rundir.files import document_bytes
    from sseproof.rundir.text import inert

    click.echo(document_bytes(answer) if text is None else inert(text), nl=text is not None)


_OUTPUTS: Final = (
    click.option("--junit", metavar="FILE", help="Also write the verdicts as JUnit XML."),
    click.option(
        "--markdown",
        metavar="FILE",
        help="Also write them as Markdown; appended if FILE is the one that GITHUB_STEP_SUMMARY names.",
    ),
    click.option(
        "--openmetrics", metavar="FILE", help="Also write figures and verdicts as OpenMetrics text."
    ),
    click.option("--annotations", is_flag=True, help="Also print GitHub annotations, on standard error."),
    click.option(
        "--export",
        "exports",
        multiple=True,
        type=click.Choice(["csv", "hgrm", "hlog"]),
        help="Also write files for other tools into the run's folder export: csv, streams, breaks and claims; hgrm and "
        "hlog, percentiles and logs of every series.",
    ),
)


def _output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OUTPUTS):
        command = option(command)
    return command


def _outputs(options: dict[str, Any]) -> "Outputs":
    """What was asked for. Raises UsageError when it can't be written."""
    from sseproof.outputs import Outputs, check_outputs

    paths = {
        name: Path(options[name])
        for name in ("junit", "markdown", "openmetrics")
        if options[name] is not None
    }
    exports = tuple(dict.fromkeys(options["exports"]))
    outputs = Outputs(**paths, annotations=options["annotations"], exports=exports)
    check_outputs(outputs)
    return outputs


@cli.command(name="run", context_settings=SETTINGS)
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@click.option("--target", metavar="URL", help="The stream's address.")
@click.option("--method", metavar="METHOD", help="GET (default) or POST.")
@click.option(
    "--header", "headers", metavar="NAME:VALUE", multiple=True, help="Request header; VALUE may be env:NAME."
)
@click.option("--body", metavar="TEXT", help="Request body, or @FILE.")
@click.option("--dialect", metavar="NAME", help="What its events mean: openai, anthropic…; else recognised.")
@click.option("--users", type=int, metavar="N", help="Streams held at once (closed loop).")
@click.option("--rate", type=float, metavar="N", help="Streams started a second (open loop).")
@click.option("--duration", metavar="TIME", help="How long new streams are admitted, such as 30s.")
@click.option("--streams", type=int, metavar="N", help="A fixed number of streams instead of a duration.")
@click.option(
    "--claim", "claims", metavar="CLAIM", multiple=True, help='Such as "ttft p95 <= 1s"; see --help-claims.'
)
@click.option(
    "--claims", "claims_file", metavar="FILE", help="Further claims: one a line, # comments; or TOML."
)
@click.option(
    "--until-decided",
    is_flag=True,
    help="Go on beyond the plan, to registered looks, until the claims are decided.",
)
@click.option("--max-duration", metavar="TIME", help="The longest that may take.")
@click.option("--profile", type=click.Choice(["resilient", "browser", "legacy"]), help="Kind of client.")
@click.option(
    "--max-requests", type=int, metavar="N", help="Upper limit of attempts, reconnections included."
)
@click.option("--workers", type=int, metavar="N", help="Load-generating processes.")
@click.option(
    "--remote-workers", type=int, metavar="N", help="Further ones on other machines; see `sseproof worker`."
)
@click.option("--master-bind", metavar="HOST:PORT", help="Where those join (default: loopback, a free port).")
@_seed_option
@_run_folder_option
@click.option("--label", "labels", metavar="K=V", multiple=True, help="Kept with the run.")
@_toxiproxy_option
@click.option(
    "--locustfile", metavar="FILE", help="Your own Locust users (SSEUser) instead of the scenario's."
)
@click.option(
    "--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any scenario key: client.timeouts.idle=5s."
)
@click.option("--marks", metavar="FILE", help="Outside events (JSONL), read when the load is over.")
@_metrics_port_option
@click.option("--allow-target", "allow", metavar="HOST", multiple=True, help="You may load this host.")
@click.option("--allow-load", type=int, metavar="N", help="Up to N streams at once on a public address.")
@_on_unknown_option
@click.option("--dry-run", is_flag=True, help="Send nothing; print what would be needed and decided.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@click.option("--help-claims", is_flag=True, help="List the metrics a claim can use, and exit.")
@_output_options
@_json_option
def run_command(scenario: Path | None, **options: Any) -> int:
    """Measures a target under load and judges claims.

    SCENARIO is a TOML file; without one the flags are enough. Precedence: flag, --set, SSEPROOF_* variable, file.

    \b
    Example:
      sseproof run --target http://127.0.0.1:8000/api/v1/stream/chat --users 50 --duration 30s \\
        --claim "success >= 98%" --claim "ttft p95 <= 1s" --claim "utf8 = 100%"
      sseproof run scenario.toml --set client.timeouts.idle=5s --json
    """
    if options["help_claims"]:
        from sseproof.reports.claims import help_claims

        click.echo(help_claims())
        return 0
    from sseproof.scenario import load_scenario
    from sseproof.until import extended

    outputs = _outputs(options)
    resolved = extended(
        load_scenario(scenario, environ=os.environ, sets=list(options["sets"]), flags=_flags(options))
    )
    if options["dry_run"]:
        from sseproof.dry_run import dry_run

        plan = dry_run(resolved)
        _warn(plan.warning)
        click.echo(plan.to_json() if options["as_json"] else plan.to_text(), nl=not options["as_json"])
        return 0
    from sseproof.experiment import run_scenario

    result = run_scenario(
        resolved, environ=os.environ, command=_repeatable(resolved.secrets), quiet=options["quiet"]
    )
    return _answered(result, outputs, as_json=options["as_json"])


def _warn(sentence: str | None) -> None:
    if sentence is not None:
        click.echo(sentence, err=True)


def _answer(directory: Path, verdict: Any, *, as_json: bool) -> None:
    from sseproof.reports.summary import summary_text

    _say_answer(verdict, None if as_json else summary_text(verdict, directory))


def _answered(result: "RunResult", outputs: "Outputs", *, as_json: bool) -> int:
    """Prints the answer, writes what was asked for beside it, and gives the exit code."""
    from sseproof.outputs import write_outputs

    _answer(result.directory, result.verdict, as_json=as_json)
    try:
        write_outputs(outputs, result.directory, result.verdict, environ=os.environ, say=_aside)
    except SuiteError as error:
        _complain(str(error), EXIT_RIG)
        return max(result.exit_code, EXIT_RIG)  # an interrupt outranks it
    return result.exit_code


def _aside(line: str) -> None:
    click.echo(line, err=True)


def _flags(options: dict[str, Any]) -> dict[str, Any]:
    """The scenario tree that the command line's options stand for; options not given are absent."""
    tree: dict[str, Any] = {}

    def put(section: str, key: str, value: Any) -> None:
        if value not in (None, (), {}):
            (tree.setdefault(section, {}) if section else tree)[key] = value

    put("target", "url", options["target"])
    put("target", "method", options["method"])
    put("target", "headers", _pairs("--header", options["headers"], ":"))
    put("target", "body", body_of(options["body"]))
    put("target", "dialect", options["dialect"])
    put("target", "allow", list(options["allow"]) or None)
    put("target", "allow_load", options["allow_load"])
    put("load", "users", options["users"])
    put("load", "rate", options["rate"])
    put("load", "duration", options["duration"])
    put("load", "streams", options["streams"])
    put("load", "max_requests", options["max_requests"])
    put("client", "profile", options["profile"])
    put("", "claims", list(options["claims"]) or None)
    put("", "claims_file", options["claims_file"])
    put("", "until_decided", options["until_decided"] or None)
    put("", "max_duration", options["max_duration"])
    put("", "workers", options["workers"])
    put("", "remote_workers", options["remote_workers"])
    put("", "master_bind", options["master_bind"])
    put("", "seed", options["seed"])
    put("", "out", options["out"])
    put("", "labels", _pairs("--label", options["labels"], "="))
    put("", "locustfile", options["locustfile"])
    put("", "toxiproxy", options["toxiproxy"])
    put("", "marks", options["marks"])
    put("", "metrics_port", options["metrics_port"])
    put("", "on_unknown", options["on_unknown"])
    return tree


def _pairs(option: str, texts: tuple[str, ...], separator: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, found, value = text.partition(separator)
        if not found or not name.strip():
            # The text itself may be a secret header: it is not repeated.
            raise UsageError(f"{option} wants NAME{separator}VALUE; one of those given has no {separator!r}.")
        pairs[name.strip()] = value.strip()
    return pairs


def _repeatable(secrets: dict[str, str]) -> list[str]:
    """The command line that repeats the run; secret header values are left out whole."""
    from sseproof.rundir.text import Redactor

    redact = Redactor(secrets.values())
    return ["sseproof", *(redact(part) for part in sys.argv[1:])]


@cli.command(context_settings=SETTINGS)
@_seed_option
@click.option(
    "--misbehave", default="", metavar="MODES", help="Plant defects in the robust service: loss,utf8,slow…"
)
@_run_folder_option
@_toxiproxy_option
@click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any scenario key: load.streams=840.")
@_metrics_port_option
@_on_unknown_option
@click.option("--dry-run", is_flag=True, help="Send nothing; print what would be needed and decided.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@_output_options
@_json_option
def demo(
    *,
    seed: int | None,
    misbehave: str,
    out: str | None,
    toxiproxy: str | None,
    sets: tuple[str, ...],
    metrics_port: int | None,
    on_unknown: str | None,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Shows it all on real parts: a naive and a careful stack side by side, under the same faults.

    Starts two reference servers, an nginx before each (when nginx is installed), Toxiproxy and Locust on this machine;
    contacts nothing else. Takes about 40 s on two cores; the first time it also builds Toxiproxy, about half a minute.

    \b
    Example:
      sseproof demo
      sseproof demo --seed 7 --misbehave loss
    """
    from sseproof.demo import load_demo

    outputs = _outputs(options)
    flags = {
        key: value
        for key, value in {
            "seed": seed,
            "out": out,
            "toxiproxy": toxiproxy,
            "metrics_port": metrics_port,
            "on_unknown": on_unknown,
        }.items()
        if value is not None
    }
    loaded = load_demo(environ=os.environ, sets=list(sets), flags=flags, misbehave=misbehave)
    if dry_run:
        from sseproof.demo import EXPECTED_RATE
        from sseproof.dry_run import dry_run as planned

        plan = planned(loaded.resolved, EXPECTED_RATE)
        _warn(plan.warning)
        click.echo(plan.to_json() if as_json else plan.to_text(), nl=not as_json)
        return 0
    from sseproof.experiment import run_scenario

    result = run_scenario(
        loaded.resolved, environ=os.environ, command=_repeatable({}), quiet=quiet, notes=loaded.notes
    )
    return _answered(result, outputs, as_json=as_json)


@cli.command(context_settings=SETTINGS)
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@click.option(
    "--browser",
    "browsers",
    multiple=True,
    type=click.Choice(["chromium", "firefox"]),
    help="Which ones of this machine are opened (default: those that are installed); none with --no-browser.",
)
@click.option("--no-browser", is_flag=True, help="Open none here: only those that join.")
@click.option(
    "--client",
    "clients",
    multiple=True,
    type=click.Choice(["sseconsumer", "eventsource", "eventsource-default"]),
    help="What reads the answers (default: all three, one after the other).",
)
@click.option("--answers", type=int, metavar="N", help="Answers that each browser reads with each client.")
@click.option("--at-once", type=int, metavar="N", help="Answers that a page reads at a time, at most 6.")
@click.option(
    "--wait", metavar="TIME", help="Print the page's address and let further browsers join so long."
)
@click.option("--expect", type=click.IntRange(min=1), metavar="N", help="Begin when so many have joined.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="IP", help="Where other desks reach the page."
)
@click.option(
    "--port",
    default=0,
    metavar="PORT",
    type=click.IntRange(0, 65_535),
    help="Of the page (default: a free one).",
)
@click.option(
    "--claim",
    "claims",
    metavar="CLAIM",
    multiple=True,
    help='Such as "success >= 98% in variant firefox-sseconsumer".',
)
@_seed_option
@_run_folder_option
@click.option("--label", "labels", metavar="K=V", multiple=True, help="Kept with the run.")
@_toxiproxy_option
@click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any scenario key: hop=nginx-plain.")
@_metrics_port_option
@_on_unknown_option
@click.option("--dry-run", is_flag=True, help="Open nothing; print what would be needed and decided.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@_output_options
@_json_option
def browsers(scenario: Path | None, **options: Any) -> int:
    """Real browsers as users, side by side: SSEConsumer and the browser's own EventSource.

    Opens Chromium and Firefox without a window on a page that reads the answers by itself, each cut three times on its way
    through Toxiproxy and nginx, and judges what the page saw by the same claims as any run. Any other browser takes part by
    opening the address that --wait prints.

    \b
    Example:
      sseproof browsers
      sseproof browsers --answers 100 --browser firefox --client sseconsumer
      sseproof browsers --wait 5m --host 192.168.1.20
    """
    from sseproof.browser_run import Choice, choose, dry, run_browsers

    outputs = _outputs(options)
    choice: Choice = choose(scenario, options)
    # The options of `run` that browsers have no use for are not given.
    absent = {each.name: () if getattr(each, "multiple", False) else None for each in run_command.params}
    flags = _flags({**absent, **options, "streams": options["answers"], "users": options["at_once"]})
    arguments: dict[str, Any] = {"environ": os.environ, "sets": list(options["sets"]), "flags": flags}
    if options["dry_run"]:
        from sseproof.dry_run import dry_run

        plan = dry_run(dry(choice, **arguments))
        _warn(plan.warning)
        click.echo(plan.to_json() if options["as_json"] else plan.to_text(), nl=not options["as_json"])
        return 0
    result = run_browsers(choice, **arguments, command=_repeatable({}), quiet=options["quiet"])
    return _answered(result, outputs, as_json=options["as_json"])


_SERVE_TIMES: Final = (
    "request_limit",
    "total_limit",
    "idle_limit",
    "replay_window",
    "drain",
    "llm_silence",
    "llm_total",
    "llm_window",
)


@cli.command(context_settings=SETTINGS)
@click.option("--master", required=True, metavar="HOST:PORT", help="Where the run waits for its workers.")
@click.option("--locustfile", metavar="FILE", help="The run's own Locust users: the same file as there.")
@click.option(
    "--out", metavar="DIR", help="Keep a copy of this worker's rows (default: only if some are left)."
)
def worker(*, master: str, locustfile: str | None, out: str | None) -> int:
    """Makes load for a run on another machine, as one process; start it once for each core.

    The run was started with --remote-workers N, says where it waits, and gives a token, which goes into the variable
    SSEPROOF_TOKEN here. Values of `env:NAME` are looked up on this machine. Ends when the run does.

    \b
    Example:
      SSEPROOF_TOKEN=… sseproof worker --master 10.0.0.1:5557
    """
    from sseproof.remote_worker import become_worker

    become_worker(master, locustfile=locustfile, out=out, environ=os.environ)


@cli.command(context_settings=SETTINGS)
@click.argument("run_dir", type=click.Path(path_type=Path))
@_output_options
@_on_unknown_option
@_json_option
def judge(run_dir: Path, *, on_unknown: Any, as_json: bool, **options: Any) -> int:
    """Judges a recorded run again, without load: the same rows give the same verdicts, byte for byte.

    --on-unknown replaces what the run was started with, in the exit code and in every output.

    \b
    Example:
      sseproof judge runs/run/latest
      sseproof judge runs/run/latest --junit verdicts.xml --export csv
    """
    from sseproof.judging import judged
    from sseproof.outputs import write_outputs

    outputs = _outputs(options)
    written: list[str] = []
    verdict = judged(
        run_dir,
        lambda verdict, history, facts: write_outputs(
            outputs, run_dir, verdict, environ=os.environ, say=written.append, read=(history, facts)
        ),
        on_unknown,
    )
    _answer(run_dir, verdict, as_json=as_json)
    for line in written:
        _aside(line)
    return verdict.exit_code


@cli.command(context_settings=SETTINGS)
@click.argument("url", required=False)
@click.option("--method", metavar="METHOD", help="GET (default), or POST when there is a body.")
@click.option(
    "--header", "headers", metavar="NAME:VALUE", multiple=True, help="Request header; VALUE may be env:NAME."
)
@click.option("--body", metavar="TEXT", help="Request body, or @FILE.")
@click.option("--dialect", metavar="NAME", help="What the events are, where they do not say it themselves.")
@click.option(
    "--terminal", metavar="MARKER", help="The event that ends a stream: event:TYPE, data:TEXT, or none."
)
@click.option(
    "--as",
    "service",
    type=click.Choice(["openai", "anthropic", "gemini"]),
    help="Supplies path, body and dialect.",
)
@click.option("--model", metavar="NAME", help="The model that --as asks.")
@click.option("--look", metavar="TIME", help="How long the stream is watched (30s; 90s with a body).")
@click.option(
    "--timeout", default="30s", show_default=True, metavar="TIME", help="How long headers are waited for."
)
@click.option(
    "--idle",
    metavar="SECONDS",
    help="Also watch one stream for so long (70, or 2m), for heartbeats and limits.",
)
@click.option("--resume", is_flag=True, help="Also cut and resume several times; with a body: resume at all.")
@click.option("--repeat", is_flag=True, help="With a body: make the further requests of GET, too.")
@click.option("--parallel", is_flag=True, help="Also open eight streams at once.")
@click.option("--slow-reader", is_flag=True, help="Also read one stream after a pause of 10 s.")
@click.option("--bad-request", is_flag=True, help="Also send a request that has to be refused.")
@click.option(
    "--also",
    type=click.Choice(["GET", "POST"], case_sensitive=False),
    help="Also ask once by this method, and compare; --body is then the POST's alone.",
)
@click.option("--origin", metavar="URL", help="Also ask the origin behind a CDN or proxy: who holds back?")
@click.option(
    "--via", metavar="WAYS", multiple=True, help="Compare ways, twice each: direct,http://proxy:3128."
)
@click.option(
    "--resolve", metavar="HOST:PORT:ADDRESS", multiple=True, help="Dial this address for a host and port."
)
@click.option("--connect-to", metavar="HOST:PORT", help="Dial there; Host and TLS name stay the URL's.")
@click.option("--proxy", metavar="URL", help="An HTTP proxy; else HTTPS_PROXY, HTTP_PROXY and NO_PROXY.")
@click.option("--cacert", metavar="FILE", help="A private certificate authority.")
@click.option("--cert", metavar="FILE", help="A client certificate.")
@click.option("--key", metavar="FILE", help="Its key, when it is in a file of its own.")
@click.option("--insecure", is_flag=True, help="Accept any certificate.")
@click.option(
    "--allow-target", "allow", metavar="HOST", multiple=True, help="A redirect may lead to this host."
)
@click.option("--only", metavar="IDS", multiple=True, help="These checks alone: H01,W or the like.")
@click.option("--skip", metavar="IDS", multiple=True, help="All checks but these.")
@click.option(
    "--out", default="checks", show_default=True, metavar="DIR", help="Folder in which captures are kept."
)
@click.option(
    "--from",
    "source",
    metavar="CAPTURE",
    type=click.Path(path_type=Path),
    help="Judge a kept capture again; sends nothing.",
)
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Also write a page.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@_json_option
def check(url: str | None, **options: Any) -> int:
    """Examines one endpoint: handshake, timing, wire, buffering; a diagnosis, and a table with evidence and fixes.

    Sends at most 12 requests to URL, one at a time, within 120 s, redirects included: a stream, the same with compression
    offered, with any Accept, resumed from an id and from an unknown one, HEAD, OPTIONS, and over https a handshake that asks
    for HTTP/2. With a method other than GET it sends the one request, and OPTIONS. What is named "also" below comes on top,
    in a time of its own.

    \b
    Example:
      sseproof check http://127.0.0.1:8000/api/v1/stream/chat
      sseproof check https://chat.example.com/v1/answers --body @question.json --header "Authorization: env:TOKEN"
      sseproof check https://api.example.com --as openai --model small-1 --header "Authorization: env:TOKEN"
      sseproof check --from checks/20261127T140305-218-chat.example.com.json

    Exit codes: 0 nothing fails, 1 a check fails, 2 none fails but an essential one (H01, H02, W01, B01, B02, D02) is
    unknown, 64 bad usage or input, 70 the suite itself broke.
    """
    from sseproof import check_commands
    from sseproof.reports.endpoint.judge import chosen_checks, judge_capture
    from sseproof.reports.endpoint_text import check_text

    only, skip = check_commands.ids(options["only"]), check_commands.ids(options["skip"])
    chosen_checks(only, skip)  # a mistake in them is told before anything is sent
    if options["html"] is not None:
        check_commands.page_place(options["html"])
    if (url is None) == (options["source"] is None):
        raise UsageError("Give the URL of an endpoint, or --from CAPTURE with a kept one; not both.")
    if options["source"] is not None:
        done = check_commands.kept(options["source"])
    else:
        say = (lambda _sentence: None) if options["quiet"] else _aside
        request = check_commands.request_of(url or "", options, _pairs("--header", options["headers"], ":"))
        done = check_commands.probe(request, os.environ, say, out=Path(options["out"]))
    report = judge_capture(done.capture, only=only, skip=skip)
    if options["html"] is not None:
        from sseproof.outputs import write_output
        from sseproof.reports.render import render_check

        write_output("--html", options["html"], render_check(report, capture=str(done.path)))
    text = None if options["as_json"] else check_text(report, capture=str(done.path)).removesuffix("\n")
    _say_answer(report, text)
    return report.exit_code


@cli.command(context_settings=SETTINGS)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option("--profile", default="robust", show_default=True, type=click.Choice(["robust", "legacy"]))
@click.option(
    "--misbehave", default="", metavar="MODES", help="loss,utf8,slow,no-resume,duplicate,truncate,stall,cut"
)
@click.option(
    "--misbehave-share", default=0.3, show_default=True, type=click.FloatRange(0, 1), help="Streams hit."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of texts and of who is hit."
)
@click.option("--heartbeat", default="20s", show_default=True, metavar="TIME", help="Silence before a ping.")
@click.option(
    "--metrics-from",
    default="loopback",
    show_default=True,
    type=click.Choice(["loopback", "anywhere"]),
    help="Who may read /metrics.",
)
@click.option(
    "--backend",
    is_flag=True,
    help="A product's rules: a login, 60 requests a minute, 8 open streams a user, limits of time, a drain, answers of a "
    "language model. The options below change single ones, or set them without --backend.",
)
@click.option(
    "--tokens",
    "tokens_file",
    metavar="FILE",
    help="Asks for a login; lines of user:token[:role][:expires], else in SSEPROOF_TOKENS.",
)
@click.option(
    "--failed-logins",
    "failed_logins_per_minute",
    type=click.IntRange(1),
    help="Unknown tokens a minute and address, 10 of them at once at most; it takes a login.",
)
@click.option(
    "--rate-limit",
    "rate_per_minute",
    type=click.IntRange(1),
    help="Requests a minute and user, 10 of them at once at most.",
)
@click.option("--question-limit", "question_limit_chars", type=click.IntRange(1, 4000), help="In characters.")
@click.option(
    "--allow-host",
    "allow_hosts",
    metavar="NAME",
    multiple=True,
    help="A further name of this server, beside localhost and its addresses (several times for several).",
)
@click.option("--streams-per-user", type=click.IntRange(1), help="Open at once.")
@click.option("--request-limit", metavar="TIME", help="For a request's head, and for its body.")
@click.option(
    "--total-limit", metavar="TIME", help="Of one connection; then the client is told to come again."
)
@click.option("--idle-limit", metavar="TIME", help="Without an event; then the stream ends with an error.")
@click.option("--replay-window", metavar="TIME", help="In which a stream that broke can be continued.")
@click.option("--replays", type=click.IntRange(0), help="How often it can.")
@click.option("--drain", metavar="TIME", help="For open streams after SIGTERM; new ones get 503 meanwhile.")
@click.option(
    "--handover", metavar="FILE", help="Written after the drain; the next server continues the streams."
)
@click.option(
    "--answers",
    type=click.Choice(["script", "upstream"]),
    help="Seeded scripts, or the model that LLM_BASE_URL, LLM_MODEL and LLM_API_KEY name; ALLOW_MOCK_LLM=1 lets scripts "
    "stand in.",
)
@click.option("--llm-silence", metavar="TIME", help="The model's longest silence; then an error (60s).")
@click.option("--llm-total", metavar="TIME", help="The model's longest answer (10m).")
@click.option("--llm-window", metavar="TIME", help="How long it is read on for who left (15s).")
def serve(*, host: str, heartbeat: str, backend: bool, **options: Any) -> int:
    """Runs the reference server: a service with a known right answer, and its own witness.

    \b
    Example:
      sseproof serve
      sseproof serve --port 0 --misbehave loss,cut
      SSEPROOF_TOKENS=ann:long-secret,root:longer-secret:admin sseproof serve --backend
      LLM_BASE_URL=http://127.0.0.1:11434/v1 LLM_MODEL=small sseproof serve --answers upstream
    """
    from sseproof.reference_server.app import run_server
    from sseproof.reference_server.auth import TOKENS_VARIABLE
    from sseproof.reference_server.settings import BACKEND_RULES, RATE_BURST, ServerSettings
    from sseproof.rundir.units import parse_duration

    given = {name: value for name, value in options.items() if value is not None}
    given["allow_hosts"] = list(given["allow_hosts"])
    address = host.strip("[] ")
    if not address:  # which the system takes for every address of this machine
        raise UsageError("--host is empty: leave it out for 127.0.0.1, or name the address to listen on.")
    if "tokens_file" in given:
        given["login"] = True
    if "rate_per_minute" in given:  # what is allowed a minute is not given all the more at once
        given["rate_burst"] = min(RATE_BURST, given["rate_per_minute"])
    try:
        for name in _SERVE_TIMES:
            if name in given:
                given[name] = parse_duration(given[name])
        settings = ServerSettings(
            host=address,
            heartbeat=parse_duration(heartbeat),
            **{**(BACKEND_RULES if backend else {}), **given},
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not settings.heartbeat.ns:
        raise UsageError(
            "--heartbeat is 0: pings would never pause. Name a time, such as 20s, or 24h for as good as none."
        )
    for name in ("request_limit", "total_limit", "idle_limit", "llm_silence", "llm_total"):
        if name in given and not given[name].ns:
            raise UsageError(
                f"--{name.replace('_', '-')} is 0: nothing lives that long. Leave it out, or name a time."
            )
    if "failed_logins_per_minute" in given and not settings.login:
        raise UsageError(
            "--failed-logins counts tokens, and nobody is asked for one: give --backend or --tokens FILE with it."
        )
    if os.environ.get(TOKENS_VARIABLE, "").strip() and not settings.login:
        _aside(
            f"{TOKENS_VARIABLE} is set, and nobody is asked for a token: a login takes --backend or --tokens FILE."
        )
    run_server(settings, _aside)
    return 0


@cli.command(context_settings=SETTINGS)
@click.option(
    "--quick", is_flag=True, help="Fewer and shorter steps: a rougher answer in about half a minute."
)
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@_json_option
def calibrate(*, quick: bool, quiet: bool, as_json: bool) -> int:
    """Finds how many streams and events a second one generator process of this machine bears.

    Loads a source of events on loopback, step by step, until half of the generator's seconds have an indicator out of its
    usual limit, and keeps the answer: a run planned above 70 % of it says so, or above 100 % where the source or the time
    ended the search and the answer is "at least". Takes about a minute and a half; both cores are busy meanwhile, so
    leave the machine alone.

    \b
    Example:
      sseproof calibrate
      sseproof calibrate --quick --json
    """
    from sseproof import calibrate as calibrating
    from sseproof.calibration import calibration_path

    pace = calibrating.QUICK if quick else calibrating.FULL
    say = (lambda _sentence: None) if quiet else calibrating.say
    say(f"Calibrates one generator process: takes {pace.text}.")
    found = calibrating.calibrate(pace, os.environ, say, quick=quick)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        click.echo(calibrating.answer_text(found, calibration_path(os.environ)))
    return 0


@cli.command(context_settings=SETTINGS)
@click.option("--check", is_flag=True, help="Only report; build nothing.")
@click.option("--toxiproxy", metavar="PATH|URL", help="The server you would name to run or demo.")
@_json_option
def setup(*, check: bool, toxiproxy: str | None, as_json: bool) -> int:
    """Finds or builds the Toxiproxy server; says what else this machine has: nginx, Apache, file limits, stamps.

    Ends with 0 when everything is there that runs and faults need, with 70 when something needed is missing (✕). What is
    missing and only useful (!) changes nothing of it.

    \b
    Example:
      sseproof setup --check
    """
    from sseproof import environment

    findings = [
        *environment.findings(),
        environment.calibrated(os.environ),
        *environment.parts(toxiproxy, build=not check),
    ]
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(findings), indent=2))
    else:
        for finding in findings:
            mark = "✓" if finding.ok else "✕" if finding.needed else "!"
            click.echo(
                f"{mark} {finding.name}: {finding.value}" + (f"; {finding.advice}" if finding.advice else "")
            )
    return environment.setup_code(findings)


class _WithSets(click.Command):
    """A command whose --with takes all that follows: `A1 A2 --with B1 B2`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeats --with before each run behind it, which is how click takes several."""
        repeated: list[str] = []
        after = False
        for word, before in zip(args, ["", *args], strict=False):
            if word == "--with":
                after = True
                continue
            if word.startswith("--with="):
                after = True
                repeated += ["--with", word.removeprefix("--with=")]
                continue
            if after and not word.startswith("-") and not self._wants_value(before):
                repeated.append("--with")
            repeated.append(word)
        return super().parse_args(ctx, repeated)

    def _wants_value(self, word: str) -> bool:
        """Whether the next word belongs to this option."""
        return any(
            isinstance(parameter, click.Option)
            and not parameter.is_flag
            and word in parameter.opts
            and word != "--with"
            for parameter in self.params
        )


@cli.command(cls=_WithSets, context_settings=SETTINGS)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--with",
    "others",
    multiple=True,
    metavar="RUN...",
    type=click.Path(path_type=Path),
    help="The other set: all runs that follow.",
)
@click.option(
    "--baseline",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Kept runs that one RUN is held against (default: baseline).",
)
@click.option(
    "--last", metavar="K", type=click.IntRange(1), help="So many of the newest kept runs (default: 40)."
)
@click.option(
    "--variant",
    "variants",
    metavar="NAME",
    multiple=True,
    help="Instead of the judged one; twice: before, after.",
)
@click.option(
    "--gate",
    metavar="FIGURE",
    multiple=True,
    help='Must be decided, else exit code 2: success, "ttft p95", …',
)
@click.option(
    "--ratio",
    default="5%",
    show_default=True,
    metavar="SHARE",
    help="By how much a time has to change to matter, between sets and against baselines.",
)
@click.option(
    "--points",
    default="1%",
    show_default=True,
    metavar="SHARE",
    help="By how many points a share has to, there.",
)
@click.option(
    "--report",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where the page goes (default: into the last run).",
)
@_json_option
def compare(
    *,
    runs: tuple[Path, ...],
    others: tuple[Path, ...],
    baseline: Path | None,
    last: int | None,
    variants: tuple[str, ...],
    gate: tuple[str, ...],
    ratio: str,
    points: str,
    report: Path | None,
    as_json: bool,
) -> int:
    """Says whether runs are worse, better, or whether no difference was shown; writes compare.html.

    Two runs (A B), one run against kept ones (RUN, with --baseline DIR), or two sets of runs (A1 A2 --with B1 B2).

    \b
    Exit codes: 1 a regression was shown, 0 none was, 2 none could
    have been (or not in a figure named by --gate), 64 bad input.

    \b
    Example:
      sseproof compare runs/nightly/20261126T020000Z-7 runs/nightly/latest
      sseproof compare runs/nightly/latest --baseline baseline
      sseproof compare old/1 old/2 old/3 old/4 old/5 --with new/1 new/2 new/3 new/4 new/5 --gate "ttft p95"
    """
    from sseproof.compare_commands import Runs, compared, share_of

    answer = compared(
        Runs(before=list(runs), after=list(others), baseline=baseline, last=last, variants=list(variants)),
        gate=gate,
        ratio=share_of("--ratio", ratio),
        points=share_of("--points", points),
        command=_repeatable({}),
        report=report,
    )
    from sseproof.rundir.text import inert

    click.echo(answer.to_json() if as_json else inert(answer.to_text()), nl=not as_json)
    return answer.exit_code


@cli.group(context_settings=SETTINGS, invoke_without_command=True)
@click.option("--scenario", metavar="NAME", help="Only its runs.")
@click.option("--label", "labels", metavar="K=V", multiple=True, help="Only runs with this label.")
@click.option(
    "--last", default=20, show_default=True, metavar="N", type=click.IntRange(1), help="How many to show."
)
@_out_option
@_json_option
@click.pass_context
def runs(
    ctx: click.Context, *, scenario: str | None, labels: tuple[str, ...], last: int, out: Path, as_json: bool
) -> int:
    """Lists the kept runs, the newest first; the commands below show trends, keep baselines, and prune.

    With --json it lists all of them. Runs that crashed or can't be read are listed with a word.

    \b
    Example:
      sseproof runs
      sseproof runs --scenario nightly --label commit=e056604 --json
    """
    if ctx.invoked_subcommand is not None:
        _refuse_before(ctx, ctx.invoked_subcommand)
        return 0
    from sseproof.runs_commands import listed

    answer = listed(out, scenario, _pairs("--label", labels, "="))
    _say_answer(answer, None if as_json else answer.to_text(last))
    return 0


def _refuse_before(ctx: click.Context, command: str) -> None:
    """An option before the name of a command below would be lost: `runs --out X prune` would prune elsewhere."""
    given = click.core.ParameterSource.COMMANDLINE
    for parameter in ctx.command.params:
        if parameter.name is not None and ctx.get_parameter_source(parameter.name) is given:
            raise UsageError(
                f"Put {parameter.opts[0]} behind {command}: sseproof runs {command} {parameter.opts[0]} …"
            )


@runs.command(name="trend", context_settings=SETTINGS)
@click.option("--scenario", metavar="NAME", help="Only its runs.")
@click.option("--label", "labels", metavar="K=V", multiple=True, help="Only runs with this label.")
@click.option(
    "--last", default=40, show_default=True, metavar="N", type=click.IntRange(1), help="Of each scenario."
)
@click.option(
    "--figure",
    "figures",
    metavar="FIGURE",
    multiple=True,
    help='Also one that no claim asked for, from the rows: "ttft p95", recovery, …',
)
@_out_option
@_json_option
def runs_trend(
    *,
    scenario: str | None,
    labels: tuple[str, ...],
    last: int,
    figures: tuple[str, ...],
    out: Path,
    as_json: bool,
) -> int:
    """Shows each claim's figure over the kept runs of a scenario, the oldest first.

    A trend is for reading: whether a run is worse than those before it is told by `sseproof compare`.

    \b
    Example:
      sseproof runs trend --scenario nightly
      sseproof runs trend --scenario nightly --figure "ttft p95"
    """
    from sseproof.runs_commands import trends

    answer = trends(out, scenario, _pairs("--label", labels, "="), last, figures)
    _say_answer(answer, None if as_json else answer.to_text())
    return 0


@runs.command(name="prune", context_settings=SETTINGS)
@click.option(
    "--keep", "keep_n", required=True, metavar="N", type=click.IntRange(1), help="Of each scenario."
)
@click.option("--scenario", metavar="NAME", help="Only its runs.")
@click.option("--dry-run", is_flag=True, help="Remove nothing; list what would be removed.")
@_out_option
@_json_option
def runs_prune(*, keep_n: int, scenario: str | None, dry_run: bool, out: Path, as_json: bool) -> int:
    """Removes all but the newest N runs of each scenario. Nothing else ever removes a run.

    A run that goes on, one that can't be read, the one that `latest` names, and what is no run stay.

    \b
    Example:
      sseproof runs prune --keep 20 --dry-run
      sseproof runs prune --keep 20 --scenario nightly
    """
    from sseproof.runs_commands import pruned

    answer = pruned(out, scenario, keep_n, dry_run=dry_run)
    _say_answer(answer, None if as_json else answer.to_text())
    return 0


@runs.command(name="keep", context_settings=SETTINGS)
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--baseline",
    default=Path("baseline"),
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder of baselines.",
)
@_json_option
def runs_keep(*, run_dir: Path, baseline: Path, as_json: bool) -> int:
    """Copies a run that is over into the folder of baselines, where no prune of the runs reaches it.

    \b
    Example:
      sseproof runs keep runs/nightly/latest
      sseproof runs --out baseline
    """
    from sseproof.runs_commands import kept_as_baseline

    answer = kept_as_baseline(run_dir, baseline)
    _say_answer(answer, None if as_json else answer.to_text())
    return 0


@cli.command(context_settings=SETTINGS)
@click.argument("text", required=False)
@click.option(
    "--marks",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Many at once instead of TEXT, a line of JSON each, as run --marks takes them.",
)
@click.option("--run", "run_dir", metavar="DIR", type=click.Path(path_type=Path), help="The run's directory.")
@click.option(
    "--out",
    default=Path("runs"),
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of runs, the newest of which is marked without --run.",
)
@click.option("--at", metavar="WHEN", help="2026-11-27T14:03:05Z, or +12.5s after the run's start; else now.")
@_json_option
def mark(
    *, text: str | None, file: Path | None, run_dir: Path | None, out: Path, at: str | None, as_json: bool
) -> int:
    """Puts an outside event into a run that goes on, or into a recorded one.

    It is shown in the answer and the report beside what was measured, and changes no verdict. Into a recorded run it needs
    --at; `sseproof judge` then shows it.

    \b
    Example:
      sseproof mark "pod killed"
      sseproof mark "deploy 1.4.2 began" --run runs/nightly/latest --at +12.5s
      sseproof mark --marks events.jsonl --run runs/nightly/latest
    """
    from sseproof.marks import newest_run, put_mark, put_marks

    if (text is None) == (file is None):
        raise UsageError(
            'Give a text, such as sseproof mark "pod killed", or --marks FILE with many; not both.'
        )
    if file is not None and at is not None:
        raise UsageError("--at is of one text: each line of --marks FILE says its own moment.")
    directory = run_dir or newest_run(out)
    row: Any
    if file is not None:
        row = put_marks(directory, file)
        answer = row.to_text()
    else:
        row = put_mark(directory, text or "", at=at)
        answer = f"Marked in {directory}: {row.text}"
    _say_answer(row, None if as_json else answer)
    return 0


@cli.group(context_settings=SETTINGS)
def chaos() -> None:
    """Faults alone, without load of ours."""


@chaos.command(name="run", context_settings=SETTINGS)
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--upstream", required=True, metavar="HOST:PORT", help="The service behind the faults.")
@click.option(
    "--listen",
    required=True,
    metavar="PORT",
    type=click.IntRange(0, 65535),
    help="The first port: one for each fault and a clean one last, or a single one with shares. 0 takes free ones.",
)
@click.option(
    "--listen-host",
    default="127.0.0.1",
    show_default=True,
    metavar="IP",
    help="Where it listens, by IPv4 or IPv6.",
)
@click.option("--duration", metavar="TIME", help="How long, instead of what the plan says.")
@click.option("--seed", type=int, metavar="N", help="Reproduces the plan; ends its folder's name.")
@click.option("--out", default="runs", show_default=True, metavar="DIR", help="Folder of run directories.")
@_toxiproxy_option
@click.option(
    "--allow-target", "allow", metavar="HOST", multiple=True, help="You may break this host's link."
)
@click.option("--dry-run", is_flag=True, help="Start nothing; draw the plan.")
@_metrics_port_option
@click.option("--quiet", is_flag=True, help="Nothing on standard error but problems.")
@_json_option
def chaos_run(
    *,
    plan: Path,
    upstream: str,
    listen: int,
    listen_host: str,
    duration: str | None,
    seed: int | None,
    out: str,
    toxiproxy: str | None,
    allow: tuple[str, ...],
    dry_run: bool,
    metrics_port: int | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Faults alone, before a service that gets its load from elsewhere.

    PLAN is a TOML file with [[fault]] tables as a scenario has them, and `duration`, `seed` and [phases] if you like. Each
    fault has a port of its own, and where clients dial decides which one they meet; with `share` in the tables there is one
    port, and each connection to it is drawn into a group. Ctrl-C heals everything.

    \b
    Example:
      sseproof chaos run plan.toml --upstream 127.0.0.1:8000 --listen 9000 --dry-run
      sseproof chaos run plan.toml --upstream 127.0.0.1:8000 --listen 9000
    """
    from sseproof.rundir.units import parse_duration
    from sseproof.standalone import Asked, planned, run_chaos

    if seed is not None and seed < 0:
        raise UsageError(f"--seed is {seed}; give a whole number from 0 up.")
    try:
        length = None if duration is None else parse_duration(duration)
    except ValueError as error:
        raise UsageError(f"--duration: {error}.") from None
    asked = Asked(
        plan=plan,
        upstream=upstream,
        listen=listen,
        listen_host=listen_host,
        allow=allow,
        toxiproxy=toxiproxy,
        out=Path(out),
        duration=length,
        seed=seed,
        metrics_port=metrics_port,
    )
    if dry_run:
        drawn, _, _ = planned(asked)
        _say_answer(drawn, None if as_json else drawn.to_text())
        return 0
    result, code = run_chaos(asked, environ=os.environ, command=_repeatable({}), quiet=quiet)
    _say_answer(result, None if as_json else result.to_text())
    return code


@chaos.command(name="list", context_settings=SETTINGS)
@_json_option
def chaos_list(*, as_json: bool) -> None:
    """Lists every fault: what happens on the wire, its keys with their units, and who can do it.

    \b
    Example:
      sseproof chaos list
      sseproof chaos list --json
    """
    from sseproof.chaos.catalogue import catalogue, to_json, to_text

    click.echo(to_json(catalogue()) if as_json else to_text(catalogue()), nl=False)


@chaos.command(name="heal", context_settings=SETTINGS)
@click.argument("run_dirs", metavar="[RUN_DIR]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--toxiproxy", default="http://127.0.0.1:8474", show_default=True, metavar="URL", help="The server."
)
@click.option(
    "--out",
    default=Path("runs"),
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of runs to look through when no RUN_DIR is given.",
)
@click.option("--url", metavar="URL", help="One GET of it at the end, which has to be answered.")
@_json_option
def chaos_heal(
    *, run_dirs: tuple[Path, ...], toxiproxy: str, out: Path, url: str | None, as_json: bool
) -> int:
    """Takes back what a run that crashed left on a Toxiproxy of yours, and nothing else.

    What a run made is on record in its directory. It is removed where the server still has it as the run made it;
    proxies and toxics of other people stay as they are, and so do those of a run that still goes on.

    \b
    Example:
      sseproof chaos heal --toxiproxy http://127.0.0.1:8474
      sseproof chaos heal runs/nightly/latest --url http://127.0.0.1:8000/healthz
    """
    from sseproof.chaos_commands import heal

    answer = heal(run_dirs, out=out, toxiproxy=toxiproxy, url=url)
    _say_answer(answer, None if as_json else answer.to_text())
    return 0
