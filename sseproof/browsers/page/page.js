/**
 * The page that makes a browser take part in a run: it joins, asks what to do, reads the streams with each client it is
 * given, and posts what its code saw. It judges nothing.
 *
 * Rules:
 * - Instants are `performance.timeOrigin + performance.now()`, taken first thing in each callback.
 * - At most `at_once` streams are open: HTTP/1.1 gives a page six connections to one place, and a seventh would wait for
 *   one, which is no fault of the service.
 * - The text is drawn as it comes, as a product would do, so that frame gaps and long tasks mean something.
 */

import { SSEConsumer } from "./sse-consumer.js";

const key = new URLSearchParams(location.search).get("key") ?? "";
const now = () => performance.timeOrigin + performance.now();
const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const EXCHANGES = 3;
const MOST_EXCHANGES = 60;
const ASK_MS = 500;
const ALIVE_MS = 2000;
let page = "";

/** @param {string} path @param {object} body @returns {Promise<any>} */
async function post(path, body) {
  for (let attempt = 0; ; attempt++) {
    try {
      const answer = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ key, page, ...body }),
      });
      const said = await answer.json();
      // It was taken the first time, and the answer was lost on its way.
      if (answer.status === 409 && attempt > 0) return said;
      if (!answer.ok) throw Object.assign(new Error(said.error ?? `status ${answer.status}`), { refused: true });
      return said;
    } catch (error) {
      if (error.refused || attempt === 3) throw error;
      await later(200 * 2 ** attempt);
    }
  }
}

/** The smallest step that the clock makes, in ms. */
function resolutionMs() {
  let smallest = Infinity;
  const until = performance.now() + 50;
  for (let before = performance.now(); before < until; ) {
    const after = performance.now();
    if (after > before) smallest = Math.min(smallest, after - before);
    before = after;
  }
  return Number.isFinite(smallest) ? smallest : 50;
}

/** The latest questions for the desk's time, of all streams: [sent, its answer in µs, received]. */
const exchanges = [];

/** Asks for the time; while streams begin and end some answers wait, and the desk believes the tightest ones. */
async function askTheTime() {
  for (let i = 0; i < EXCHANGES; i++) {
    try {
      const sent = now();
      const answer = await fetch(`/clock?key=${encodeURIComponent(key)}`);
      const received = now();
      exchanges.push([sent, (await answer.json()).us, received]);
    } catch (error) {
      if (exchanges.length === 0) throw error; // what is known already grows less certain, and the desk says by how much
    }
    if (exchanges.length > MOST_EXCHANGES) exchanges.shift();
  }
}

/** Keeps surrogates that stand alone out of JSON, which can't carry them. @param {string} text */
const wellFormed = (text) => (text.toWellFormed ? text.toWellFormed() : text.replace(/[\ud800-\udfff]/gu, "\ufffd"));

/** Whether an event is the answer's end, in a scenario's words. */
function endOf(terminal) {
  if (terminal.startsWith("event:")) return (event) => event.type === terminal.slice(6);
  if (terminal.startsWith("data:")) return (event) => event.data === terminal.slice(5);
  return () => false;
}

/** What one stream's connections were. */
class Account {
  constructor() {
    this.attempts = [];
    this.begin(now());
  }

  begin(at) {
    this.current = { started_ms: at, opened_ms: null, ended_ms: at, end: "given-up", events: [] };
    this.attempts.push(this.current);
  }

  opened(at) {
    this.current.opened_ms = at;
    this.current.status = 200;
  }

  event(at, type, id, data) {
    this.current.events.push([at, wellFormed(type), wellFormed(id), wellFormed(data)]);
  }

  ended(at, end, more = {}) {
    // A connection that was still being waited for did not begin.
    const started_ms = Math.min(this.current.started_ms, at);
    Object.assign(this.current, { started_ms, ended_ms: at, end }, more);
  }
}

/** Reads one answer with the browser's own EventSource. */
function byEventSource(job, url, draw) {
  return new Promise((resolve) => {
    const account = new Account();
    const isEnd = endOf(job.terminal);
    const source = new EventSource(url);
    const finish = (end, more) => {
      account.ended(now(), end, more);
      clearTimeout(timer);
      source.close();
      resolve(account);
    };
    const timer = setTimeout(() => finish("total-timeout"), job.total_ms);
    source.onopen = () => account.opened(now());
    const onevent = (event) => {
      const at = now();
      account.event(at, event.type, event.lastEventId, event.data);
      draw(event.type, event.data);
      if (isEnd(event)) {
        account.ended(at, "terminal");
        clearTimeout(timer);
        source.close();
        resolve(account);
      }
    };
    for (const type of job.types) if (type !== "error") source.addEventListener(type, onevent);
    source.onerror = (event) => {
      if (event instanceof MessageEvent) return onevent(event);
      const at = now();
      const end = account.current.opened_ms === null ? "refused" : "broken";
      if (source.readyState === EventSource.CLOSED) {
        return finish(end === "refused" ? "status" : end, { detail: "the browser gave up and does not say why" });
      }
      account.ended(at, end);
      account.begin(at);
    };
  });
}

/** What the consumer calls an end, in the words of a record; the others are the same. */
const ENDS = { network: "refused", cut: "broken", eof: "ended", "id-too-long": "given-up", callback: "given-up", stopped: "given-up" };

/** Reads one answer with the careful client of the demo page. */
async function bySSEConsumer(job, url, draw) {
  const account = new Account();
  const isEnd = endOf(job.terminal);
  let over = "";
  let whole = false;
  let lastAt = now();
  const consumer = new SSEConsumer(url, {
    terminal: isEnd,
    onopen: ({ atMs }) => account.opened(atMs),
    onevent: ({ id, type, data, atMs }) => {
      lastAt = atMs;
      whole ||= isEnd({ type, data });
      account.event(atMs, type, id ?? "", data);
      draw(type, data);
    },
    onretry: ({ delayMs, reason, atMs }) => {
      account.ended(atMs, ENDS[reason] ?? reason, { wait_ms: delayMs });
      account.begin(atMs + delayMs);
    },
  });
  const timer = setTimeout(() => {
    over = "total-timeout";
    consumer.close();
  }, job.total_ms);
  const result = await consumer.start();
  clearTimeout(timer);
  const { error } = result;
  const more = error ? { detail: error.message.slice(0, 400), ...(error.status ? { status: error.status } : {}) } : {};
  if (whole) account.ended(lastAt, "terminal");
  else if (over) account.ended(now(), over);
  // Complete without the answer's end: the service had nothing more to say (204).
  else account.ended(now(), error ? (ENDS[error.reason] ?? error.reason) : "no-content", more);
  return account;
}

const CLIENTS = { eventsource: byEventSource, sseconsumer: bySSEConsumer };

/** How the page is drawn while streams run. */
class Drawing {
  constructor() {
    this.began = performance.now();
    this.gaps = [];
    this.long = null;
    this.longMs = 0;
    this.lag = 0;
    this.hidden = document.hidden;
    this.running = true;
    // No frame is drawn of a hidden page, so that frames alone never tell of it.
    this.seeHidden = () => {
      if (document.hidden) this.hidden = true;
    };
    document.addEventListener("visibilitychange", this.seeHidden);
    let before = null;
    const frame = (at) => {
      if (before !== null) this.gaps.push(at - before);
      before = at;
      if (this.running) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    let due = performance.now() + 10;
    this.timer = setInterval(() => {
      const at = performance.now();
      this.lag = Math.max(this.lag, at - due);
      due = at + 10;
    }, 10);
    if (longTasks()) {
      this.long = 0;
      this.observer = new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) {
          this.long += 1;
          this.longMs += entry.duration;
        }
      });
      this.observer.observe({ type: "longtask" });
    }
  }

  /** What is posted about it. */
  over() {
    this.running = false;
    clearInterval(this.timer);
    document.removeEventListener("visibilitychange", this.seeHidden);
    this.observer?.disconnect();
    const sorted = this.gaps.toSorted ? this.gaps.toSorted((a, b) => a - b) : [...this.gaps].sort((a, b) => a - b);
    const at = (share) => (sorted.length ? sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] : null);
    return {
      length_ms: performance.now() - this.began,
      frames: sorted.length,
      frame_gap_p50_ms: at(0.5),
      frame_gap_p95_ms: at(0.95),
      frame_gap_max_ms: at(1),
      long_tasks: this.long,
      long_tasks_ms: this.long === null ? null : this.longMs,
      timer_lag_max_ms: this.lag,
      hidden: this.hidden,
    };
  }
}

const longTasks = () => PerformanceObserver.supportedEntryTypes?.includes("longtask") ?? false;

/** A place on the page where one answer is drawn. */
function place() {
  const item = document.createElement("li");
  item.dir = "auto";
  document.getElementById("streams").append(item);
  return item;
}

function drawInto(item) {
  item.textContent = "";
  return (type, data) => {
    try {
      const text = JSON.parse(data).text;
      if (typeof text === "string") item.append(text);
    } catch {
      item.append(data);
    }
  };
}

const say = (text) => {
  document.getElementById("state").textContent = text;
};

async function run(jobs) {
  const bar = document.getElementById("progress");
  bar.max = jobs.reduce((sum, job) => sum + job.streams.length, 0);
  bar.value = 0;
  for (const job of jobs) {
    say(`Reads ${job.streams.length} answers with ${job.client} (${job.variant}), ${job.at_once} at a time.`);
    const waiting = [...job.streams];
    const drawing = new Drawing();
    const reader = async () => {
      const item = place();
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const [stream, url] = next;
        await askTheTime();
        await post("/start", { variant: job.variant, stream });
        const account = await CLIENTS[job.client](job, url, drawInto(item));
        await askTheTime();
        await post("/stream", { variant: job.variant, stream, exchanges, attempts: account.attempts });
        bar.value += 1;
      }
      item.remove();
    };
    await Promise.all(Array.from({ length: job.at_once }, reader));
    await post("/rendering", { variant: job.variant, ...drawing.over() });
  }
}

async function main() {
  ({ page } = await post("/join", {
    page: "",
    user_agent: navigator.userAgent.slice(0, 512),
    resolution_ms: resolutionMs(),
    isolated: globalThis.crossOriginIsolated === true,
    long_tasks: longTasks(),
  }));
  say("Joined. Waits until the run begins…");
  let work;
  while ((work = await post("/task", {})).state === "wait") await later(ASK_MS);
  if (work.state === "over") return say("The run had no place for this browser: it began before.");
  const alive = setInterval(() => post("/task", { again: true }).catch(() => {}), ALIVE_MS);
  try {
    await run(work.jobs);
    await post("/done", {});
    say("It is over. Thank you; the figures are in the run's report.");
  } finally {
    clearInterval(alive);
  }
}

main().catch(async (error) => {
  const problem = String(error?.message ?? error).slice(0, 400);
  say(`It could not go on: ${problem}`);
  if (page) await post("/done", { problem }).catch(() => {});
});
