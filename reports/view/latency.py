"""TTFT as one figure for all variants, wherever the page shows it."""

from sseproof.reports.charts.spread import Sample, spectrum
from sseproof.reports.facts import ttft_ns
from sseproof.reports.view.model import Figure
from sseproof.reports.view.record import Record, limits, ttft_reading, variant_text


def ttft_figure(record: Record) -> Figure | None:
    """The percentile spectrum; in open load from plan and from send, whose distance is what queueing hides."""
    chart = spectrum("ttft-spectrum", "TTFT", _samples(record), limits(record, "ttft"))
    return None if chart is None else Figure(chart=chart)


def _samples(record: Record) -> list[Sample]:
    samples = []
    planned = ttft_reading(record) == "from plan"
    for index, name in enumerate(record.variants):
        streams = record.of(name)
        lead = f"{variant_text(name)}, " if record.several else ""
        samples.append(
            Sample(
                name=f"{lead}{ttft_reading(record)}",
                values_ns=[ttft_ns(each.record) for each in streams],
                colour=index,
            )
        )
        if planned:
            from_send: list[int | None] = []
            for each in streams:
                sent, token = each.record.sent, each.record.first_token
                from_send.append(None if sent is None or token is None else max(token.ns - sent.ns, 0))
            samples.append(
                Sample(name=f"{lead}from send", values_ns=from_send, colour=index, dash="5 3", band=False)
            )
    return samples
