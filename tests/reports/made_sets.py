"""Recorded runs to be compared: seeded, by the real Appender, each with an effect of its own on all its streams."""

import json
import random
from pathlib import Path

from sseproof.rundir.files import PLAN_NAME, RUN_NAME, STARTS, STREAMS
from sseproof.rundir.rows import StartRow, StreamRecord
from tests.reports.made_runs import RUN, Maker, at

MINUTE_NS = 60 * 10**9


def made_run(
    directory: Path,
    seed: int,
    *,
    streams: int = 60,
    bad: float = 0.02,
    slower: float = 1.0,
    effect: float = 0.02,
    minute: int = 0,
    hostile: bool = False,
) -> Path:
    """One run: so many streams, a share of which is cut, first tokens of about 80 ms times `slower` times its own effect."""
    directory.mkdir(parents=True)
    maker = Maker(directory, seed=seed, hostile=hostile)
    rng = random.Random(f"made {seed}")
    own = slower * rng.lognormvariate(0.0, effect)
    failing = set(rng.sample(range(streams), round(bad * streams)))
    for number in range(streams):
        start = number * 100
        first = start + 1 + rng.lognormvariate(4.4, 0.25) * own
        good = number not in failing
        record = StreamRecord(
            stream=number,
            group="clean",
            dispatched=at(start),
            sent=at(start + 1),
            headers=at(first - 1),
            first_event=at(first),
            first_token=at(first),
            last_event=at(first + 500),
            ended=at(first + 501),
            outcome="complete" if good else "cut",
            end="terminal" if good else "fin",
            events=40,
            tokens=38,
            ids=[(1, 40)],
            lost=0,
            doubled=0,
            reordered=0,
            attempts_total=1,
            gaps=maker.gaps(20, slow=False),
        )
        record.attempts = [maker.attempt(1, start, start + 1, first, first + 500, record.end)]
        maker.append(STARTS, StartRow(stream=number, group="clean", dispatched=record.dispatched))
        maker.append(STREAMS, record)
    maker.documents([None], length_s=30)
    maker.close()
    _renamed(directory, f"made-{seed}", seed, minute * MINUTE_NS)
    return directory


def _renamed(directory: Path, run: str, seed: int, later_ns: int) -> None:
    """A run of its own, that began later."""
    for name, changes in ((PLAN_NAME, {"seed": seed}), (RUN_NAME, {})):
        document = json.loads((directory / name).read_text()) | changes
        for key in ("started_ns", "ended_ns", "created_ns"):
            if key in document:
                document[key] += later_ns
        (directory / name).write_text(json.dumps(document | {"run": run}))
    for path in directory.glob("*.jsonl"):
        path.write_text(path.read_text().replace(RUN, run, 1))


def made_sides(
    root: Path, runs: int, *, slower: float = 1.0, bad: float = 0.02
) -> tuple[list[Path], list[Path]]:
    """So many runs a side that took turns; those behind are slower, and more of their streams are cut."""
    before = [made_run(root / "a" / str(i), i, minute=2 * i) for i in range(runs)]
    after = [
        made_run(root / "b" / str(i), 100 + i, slower=slower, bad=bad, minute=2 * i + 1) for i in range(runs)
    ]
    return before, after
