// k6 with the extension xk6-sse on the bench source: each virtual user holds one stream until the test's length is over.
// BENCH_RESULT gets what the other clients write: ages in ms of the events between the two instants of BENCH_WINDOW (seconds
// since the epoch) with their counts, how many events came in all, and how many never came. The clock of its scripts has
// whole milliseconds: ages are up to one too small, and what that makes negative counts as none.
import sse from "k6/x/sse";
import { Counter, Trend } from "k6/metrics";

const ages = new Trend("ages");
const received = new Counter("received");
const lost = new Counter("lost");
const [begins, ends] = __ENV.BENCH_WINDOW.split(" ").map((word) => Number(word) * 1000);
const endsAt = Date.now() + Number(__ENV.LENGTH_S) * 1000;
const steps = [];
for (let at = 0; at <= 100; at += 0.5) steps.push(`p(${at})`);
export const options = { summaryTrendStats: ["count", ...steps] };

export default function () {
  let count = 0;
  let last = 0;
  sse.open(__ENV.URL, {}, function (client) {
    client.on("event", function (event) {
      if (!event.data) return;
      const now = Date.now();
      const age = now - JSON.parse(event.data).sent_at / 1e6;
      if (now >= begins && now < ends) ages.add(age);
      count += 1;
      last = Number(event.id);
      if (now >= endsAt) client.close();
    });
  });
  received.add(count);
  lost.add(Math.max(0, last - count));
}

export function handleSummary(data) {
  const values = data.metrics.ages.values;
  const each = Math.max(1, Math.round(values.count / steps.length));
  const said = { ages_ms: {}, received: data.metrics.received.values.count, lost: data.metrics.lost.values.count };
  for (const step of steps) {
    const age = Math.max(0, values[step]);
    said.ages_ms[age] = (said.ages_ms[age] || 0) + each;
  }
  return { [__ENV.BENCH_RESULT]: JSON.stringify(said) };
}
