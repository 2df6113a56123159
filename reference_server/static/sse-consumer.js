/**
 * A careful client of event streams: what EventSource leaves to chance, over fetch.
 *
 * Rules (reference: HTML Standard, section 9.2; the Python client's policy, `loadtests/reconnect.py`):
 * - Bytes are decoded as one stream, so that a character may lie in two reads. Lines end at LF, CR and CRLF, a CR at the
 *   end of a read ends its line at once; an event leaves with its last byte. What is unfinished at a cut is dropped.
 *   Browsers throw away what had come but was not read when a connection broke: the resume brings it again.
 * - The last id that was received goes out as Last-Event-ID in UTF-8 bytes. Events that a resume sends once more are known
 *   by the numbers at the end of their ids, and not handed on twice.
 * - A break is followed by at most `retries` attempts in a row; only a new event starts the count over. Our own backoff is
 *   jittered downwards, a time the server named (`retry:`) is a minimum and jittered upwards, Retry-After is waited for in
 *   full with the backoff on top: clients that were turned away together do not come back together.
 * - `highWater` events at most wait for `onevent`; beyond it nothing is read, and the server feels it.
 * - What a server sends is bounded, and never more than text.
 *
 * A module without dependencies; it needs fetch, streams, TextDecoder and timers.
 */

/** Longest event in UTF-16 units: more than any answer's piece, less than what hurts a tab. */
export const MAX_EVENT_CHARS = 16 * 1024 * 1024;
/** A longer `retry:` is taken as a day. */
export const MAX_RETRY_MS = 86_400_000;
/** `retry: 0` asks for a tight loop. */
export const MIN_RETRY_MS = 10;
/** A longer Retry-After is obeyed up to here: nobody sits before a page for an hour. */
export const MAX_RETRY_AFTER_MS = 60_000;
/** Servers take some 8 KB of headers in all. */
export const MAX_ID_BYTES = 4096;
/** How long a finished answer's connection may take to end by itself; cutting it off would look like a user who left. */
const LEAVE_MS = 1000;

const RETRIED_STATUSES = new Set([408, 429, 500, 502, 503, 504]);
const RETRIED_REASONS = new Set(["network", "cut", "eof", "idle-timeout"]);
const LINE_END = /\r\n?|\n/g;
const DIGITS = /^[0-9]+$/;
const NUMBERED = /^(.*?)([0-9]{1,40})$/s;
const SENTENCE_BYTES = 2048;

/**
 * @typedef {object} ParsedEvent
 * @property {string} type `message` unless the stream said otherwise
 * @property {string} data
 * @property {string} id the stream's last id, this event's own or an earlier one's
 * @property {boolean} own the event's block carried the id itself
 */

/** Too long an event: the stream is given up. */
export class EventTooLong extends Error {}

/** The bytes of one connection to events; of the connection before only the id is taken over. */
export class EventStreamParser {
  #decoder = new TextDecoder("utf-8");
  #maxEventChars;
  #line = "";
  #skipLf = false;
  /** @type {string[]} */
  #data = [];
  #dataChars = 0;
  #type = "";
  /** @type {string | null} */
  #id = null;

  /** @param {{lastEventId?: string, maxEventChars?: number}} [options] */
  constructor({ lastEventId = "", maxEventChars = MAX_EVENT_CHARS } = {}) {
    /** The id of the last finished block that had one; "" for none. */
    this.lastEventId = lastEventId;
    /** The reconnection time that was named last, in ms. @type {number | null} */
    this.retryMs = null;
    this.#maxEventChars = maxEventChars;
  }

  /**
   * The events that end in these bytes.
   * @param {Uint8Array} bytes
   * @returns {ParsedEvent[]}
   * @throws {EventTooLong}
   */
  push(bytes) {
    const text = this.#decoder.decode(bytes, { stream: true });
    /** @type {ParsedEvent[]} */
    const events = [];
    if (text === "") return events;
    let from = this.#skipLf && text[0] === "\n" ? 1 : 0;
    this.#skipLf = false;
    LINE_END.lastIndex = from;
    for (let end = LINE_END.exec(text); end; end = LINE_END.exec(text)) {
      const line = this.#line + text.slice(from, end.index);
      this.#line = "";
      from = LINE_END.lastIndex;
      this.#skipLf = end[0] === "\r" && from === text.length;
      if (line === "") this.#dispatch(events);
      else this.#field(line);
    }
    this.#line += text.slice(from);
    this.#bound(this.#line.length);
    return events;
  }

  /** @param {string} line */
  #field(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") {
      this.#data.push(value);
      this.#dataChars += value.length + 1;
      this.#bound(0);
    } else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && DIGITS.test(value)) this.retryMs = Math.min(Number(value), MAX_RETRY_MS);
  }

  /** @param {ParsedEvent[]} events */
  #dispatch(events) {
    const own = this.#id !== null;
    if (this.#id !== null) this.lastEventId = this.#id;
    if (this.#data.length > 0) {
      events.push({ type: this.#type || "message", data: this.#data.join("\n"), id: this.lastEventId, own });
    }
    this.#data = [];
    this.#dataChars = 0;
    this.#type = "";
    this.#id = null;
  }

  /** @param {number} lineChars */
  #bound(lineChars) {
    if (this.#dataChars + lineChars > this.#maxEventChars) {
      throw new EventTooLong(`An event is longer than ${this.#maxEventChars} characters.`);
    }
  }
}

/**
 * @typedef {object} StreamEvent what `onevent` gets
 * @property {string} id the stream's last id ("" for none)
 * @property {string} type
 * @property {string} data
 * @property {number} atMs ms since 1970, at the read that brought its last byte
 * @property {number} sequence 1, 2, 3 …: its place among the events handed on
 */

/**
 * @typedef {object} StreamError
 * @property {string} reason how the last attempt ended: `network`, `status`, `content-type`, `no-content`, `idle-timeout`,
 *   `eof`, `cut`, `too-big`, `id-too-long`, `inband-error`, `callback`, `stopped`
 * @property {string} message one sentence; it may quote the service, so show it as text only
 * @property {number | null} status the HTTP status where that is the reason
 */

/**
 * @typedef {object} StreamResult
 * @property {string} outcome in the suite's words: `complete` (also: 204 after events), `throttled`, `error-http`,
 *   `error-inband`, `truncated` (a clean end before the terminal event), `cut`, `stalled`, `unreachable`, `unfinished`
 *   (closed, or a callback threw)
 * @property {number} attempts connections that were tried
 * @property {string} lastEventId where another consumer can go on: the id of the last event handed on
 * @property {StreamError | null} error null when complete
 * @property {number} repeats events that a resume sent once more, and that were not handed on again
 */

/**
 * @typedef {object} ConsumerOptions
 * @property {string} [method] sent again, with the same body, at each attempt
 * @property {HeadersInit} [headers]
 * @property {BodyInit | null} [body] no stream: it could not be sent again
 * @property {string} [lastEventId] where to begin
 * @property {number} [retries] attempts in a row that may fail after the first
 * @property {number} [backoffMs] first wait; it doubles with each failure in a row
 * @property {number} [maxBackoffMs]
 * @property {number} [highWater] events that may wait for `onevent`
 * @property {number} [idleMs] silence, heartbeats included, after which a connection is given up; 0 waits for ever
 * @property {number} [maxEventChars]
 * @property {((event: ParsedEvent) => boolean) | null} [terminal] whether an event ends the answer; null for a subscription,
 *   which has no end and may be opened again without an id
 * @property {(event: ParsedEvent) => boolean} [failure] whether an event says that the answer failed
 * @property {(event: ParsedEvent) => boolean} [heartbeat] whether an event is a sign of life only: no progress, no repeat
 * @property {() => number} [random] in [0, 1), for the jitter
 * @property {(opened: {attempt: number, atMs: number}) => void} [onopen]
 * @property {(event: StreamEvent) => unknown} [onevent] may return a promise: the next event waits for it
 * @property {(retry: {attempt: number, delayMs: number, reason: string, atMs: number}) => void} [onretry] before each wait;
 *   `attempt` is the one to come
 * @property {(result: StreamResult) => void} [onend]
 */

/** How one connection ended. @typedef {{reason: string, message: string, status?: number, retryAfterMs?: number | null}} End */

/** One logical stream over as many connections as it takes. */
export class SSEConsumer {
  /** @type {"idle" | "connecting" | "open" | "waiting" | "closed"} */
  state = "idle";
  #options;
  #url;
  /** @type {Headers} */
  #headers;
  #stop = new AbortController();
  /** @type {Promise<"stopped">} */
  #stopped;
  #attempts = 0;
  #lastEventId;
  #handedId;
  /** @type {Place | null} The furthest numbered event that was received. */
  #place;
  /** @type {number | null} */
  #retryMs = null;
  #got = 0;
  #repeats = 0;
  #sequence = 0;
  #withIds = false;
  #progressed = false;
  #completed = false;
  /** @type {{event: StreamEvent, last: boolean}[]} */
  #queue = [];
  #delivering = false;
  /** @type {(() => void)[]} */
  #waiters = [];
  /** @type {{cause: unknown} | null} What a callback threw. */
  #thrown = null;
  #started = false;

  /**
   * @param {string | URL} url
   * @param {ConsumerOptions} [options]
   * @throws {TypeError} for what fetch would refuse: address, method, headers, a GET with a body; an id that no header holds
   * @throws {RangeError} for a number out of bounds
   */
  constructor(url, options = {}) {
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    this.#options = { ...DEFAULTS, ...given };
    const { method, headers, body, lastEventId } = this.#options;
    if (body instanceof ReadableStream) throw new TypeError("The body must not be a stream: a retry sends it again.");
    if (/[\0\r\n]/.test(lastEventId)) throw new TypeError("A Last-Event-ID holds neither NUL nor line ends.");
    for (const [name, least] of LEAST) {
      const value = this.#options[name];
      if (!Number.isFinite(value) || value < least) throw new RangeError(`${name} is a number from ${least} on, not ${value}.`);
    }
    this.#url = new URL(url, globalThis.location?.href).href;
    this.#headers = new Headers(headers);
    if (!this.#headers.has("Accept")) this.#headers.set("Accept", "text/event-stream");
    this.#headers.delete("Last-Event-ID");
    void new Request(this.#url, { method, headers: this.#headers, body });
    this.#lastEventId = this.#handedId = lastEventId;
    this.#place = placeOf(lastEventId);
    this.#withIds = lastEventId !== "";
    this.#stopped = new Promise(resolve => {
      this.#stop.signal.addEventListener("abort", () => resolve("stopped"), { once: true });
    });
  }

  /**
   * Runs the stream to its end. The promise never rejects: what went wrong is in the result.
   * @returns {Promise<StreamResult>}
   * @throws {Error} when it was started before
   */
  start() {
    if (this.#started) throw new Error("A consumer runs once: make another one.");
    this.#started = true;
    return this.#run();
  }

  /** Ends the stream at once, from anywhere: no further request, event or wait. */
  close() {
    if (this.state === "closed") return;
    this.state = "closed";
    this.#queue.length = 0;
    this.#stop.abort();
  }

  /** @returns {Promise<StreamResult>} */
  async #run() {
    /** @type {End} */
    let end = STOPPED;
    let retries = 0;
    while (!this.#stop.signal.aborted) {
      this.#attempts += 1;
      this.state = "connecting";
      this.#progressed = false;
      end = await this.#attempt();
      if (this.#stop.signal.aborted) break;
      if (this.#progressed) retries = 0;
      if (!this.#curable(end) || retries >= this.#options.retries) break;
      const delayMs = this.#delay(end, retries);
      retries += 1;
      this.state = "waiting";
      this.#call("onretry", { attempt: this.#attempts + 1, delayMs, reason: end.reason, atMs: nowMs() });
      await this.#sleep(delayMs);
    }
    await this.#until(() => this.#queue.length === 0 && !this.#delivering);
    return this.#finish(end);
  }

  /** @param {End} end @returns {StreamResult} */
  #finish(end) {
    if (this.#thrown) end = { reason: "callback", message: `A callback threw: ${messageOf(this.#thrown.cause)}` };
    else if (this.#stop.signal.aborted) end = STOPPED;
    const outcome = this.#completed && !this.#thrown ? "complete" : outcomeOf(end, this.#got > 0);
    const drained = this.#queue.length === 0 && !this.#stop.signal.aborted;
    this.close();
    const result = {
      outcome,
      attempts: this.#attempts,
      lastEventId: drained ? this.#lastEventId : this.#handedId,
      error: outcome === "complete" ? null : { reason: end.reason, message: end.message, status: end.status ?? null },
      repeats: this.#repeats,
    };
    try {
      this.#options.onend?.(result);
    } catch (cause) {
      reportError(cause);
    }
    return result;
  }

  /** One connection. @returns {Promise<End>} */
  async #attempt() {
    const id = new TextEncoder().encode(this.#lastEventId);
    if (id.length > MAX_ID_BYTES) return { reason: "id-too-long", message: `The last id has ${id.length} bytes, too many for a header.` };
    const controller = new AbortController();
    const abort = () => controller.abort();
    this.#stop.signal.addEventListener("abort", abort, { once: true });
    const silence = new Silence(this.#options.idleMs, abort);
    let leave = abort;
    try {
      const response = await silence.bound(fetch(this.#url, this.#request(id, controller.signal)));
      const refused = await this.#refusal(response, silence);
      if (this.#stop.signal.aborted) return STOPPED;
      if (refused) return refused;
      this.state = "open";
      this.#call("onopen", { attempt: this.#attempts, atMs: nowMs() });
      if (!response.body) return EOF;
      const reader = response.body.getReader();
      const end = await this.#read(reader, silence);
      if (end.reason === "terminal") leave = () => void letEnd(reader, abort);
      return end;
    } catch (cause) {
      if (silence.over) return { reason: "idle-timeout", message: `Nothing came for ${this.#options.idleMs} ms.` };
      const opened = this.state === "open";
      return { reason: opened ? "cut" : "network", message: `${opened ? "The connection broke" : "No connection"}: ${messageOf(cause)}` };
    } finally {
      this.#stop.signal.removeEventListener("abort", abort);
      leave();
    }
  }

  /** @param {Uint8Array} id @param {AbortSignal} signal @returns {RequestInit} */
  #request(id, signal) {
    const headers = new Headers(this.#headers);
    // A header is bytes: each one of the id's UTF-8 goes out as the character of its number.
    if (id.length > 0) headers.set("Last-Event-ID", String.fromCharCode(...id));
    const { method, body } = this.#options;
    return { method, headers, body, signal, cache: "no-store" };
  }

  /**
   * Why this answer is no event stream, null when it is one.
   * @param {Response} response
   * @param {Silence} silence
   * @returns {Promise<End | null>}
   */
  async #refusal(response, silence) {
    const { status } = response;
    const type = response.headers.get("Content-Type") ?? "";
    if (status === 204) return { reason: "no-content", message: "The service has nothing more to say (204).", status };
    if (status !== 200) {
      const said = await silence.bound(sentenceOf(response, type)).catch(() => "");
      const retryAfterMs = retryAfter(response.headers.get("Retry-After"));
      return { reason: "status", message: said || `The service answered ${status}.`, status, retryAfterMs };
    }
    if (essenceOf(type) === "text/event-stream") return null;
    return { reason: "content-type", message: `The answer is ${essenceOf(type).slice(0, 80) || "of no type"}, no event stream.`, status };
  }

  /**
   * @param {ReadableStreamDefaultReader<Uint8Array>} reader
   * @param {Silence} silence
   * @returns {Promise<End>}
   */
  async #read(reader, silence) {
    const parser = new EventStreamParser({ lastEventId: this.#lastEventId, maxEventChars: this.#options.maxEventChars });
    const resumed = this.#place;
    while (!this.#stop.signal.aborted) {
      const { done, value } = await silence.bound(reader.read());
      const atMs = nowMs();
      if (done) return EOF;
      let events;
      try {
        events = parser.push(value);
      } catch (cause) {
        return { reason: "too-big", message: messageOf(cause) };
      }
      this.#retryMs = parser.retryMs ?? this.#retryMs;
      for (const event of events) {
        const end = this.#take(event, resumed, atMs);
        if (end) return end;
      }
      this.#reach(parser.lastEventId);
      await this.#until(() => this.#queue.length < this.#options.highWater);
    }
    return STOPPED;
  }

  /**
   * Takes one event in; an End when it is the last one.
   * @param {ParsedEvent} event
   * @param {Place | null} resumed what was received before this connection
   * @param {number} atMs
   * @returns {End | null}
   */
  #take(event, resumed, atMs) {
    let last = false;
    let failed = false;
    try {
      const beat = this.#options.heartbeat(event);
      if (!beat && event.own && isBehind(event.id, resumed)) {
        this.#repeats += 1;
        return null;
      }
      if (!beat && this.#isNew(event)) this.#progressed = true;
      this.#got += beat ? 0 : 1;
      last = this.#options.terminal?.(event) ?? false;
      failed = !last && this.#options.failure(event);
    } catch (cause) {
      this.#fail(cause);
      return STOPPED;
    }
    if (event.own) this.#reach(event.id);
    const { id, type, data } = event;
    this.#queue.push({ event: { id, type, data, atMs, sequence: 0 }, last });
    if (!this.#delivering) void this.#deliver();
    if (last) return { reason: "terminal", message: "" };
    return failed ? { reason: "inband-error", message: `The service reported an error: ${data.slice(0, 500)}` } : null;
  }

  /** Whether an event is progress: without it, a server that greets and hangs up would be asked for ever. @param {ParsedEvent} event */
  #isNew(event) {
    if (!event.own) return !this.#withIds;
    return event.id !== this.#lastEventId && !isBehind(event.id, this.#place);
  }

  /** The next attempt continues behind this id. @param {string} id */
  #reach(id) {
    if (isBehind(id, this.#place)) return;
    this.#withIds = id !== "";
    this.#lastEventId = id;
    this.#place = placeOf(id) ?? this.#place;
  }

  /** Hands events on, one after another. */
  async #deliver() {
    // Callbacks that return nothing are through before this returns: a promise kept by the caller would never be let go.
    this.#delivering = true;
    for (let next = this.#queue.shift(); next && !this.#stop.signal.aborted; next = this.#queue.shift()) {
      this.#handedId = next.event.id;
      this.#completed ||= next.last;
      this.#sequence += 1;
      try {
        const taken = this.#options.onevent?.({ ...next.event, sequence: this.#sequence });
        if (isThenable(taken)) await taken;
      } catch (cause) {
        this.#fail(cause);
      }
      this.#wake();
    }
    this.#delivering = false;
    this.#wake();
  }

  #wake() {
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  /** Waits until it is so, or until the stream is stopped. @param {() => boolean} isSo */
  async #until(isSo) {
    while (!isSo() && !this.#stop.signal.aborted) {
      await Promise.race([new Promise(resolve => this.#waiters.push(() => resolve(null))), this.#stopped]);
    }
  }

  /** @param {"onopen" | "onretry"} name @param {any} told */
  #call(name, told) {
    try {
      this.#options[name]?.(told);
    } catch (cause) {
      this.#fail(cause);
    }
  }

  /** @param {unknown} cause */
  #fail(cause) {
    this.#thrown ??= { cause };
    this.#stop.abort();
  }

  /** @param {End} end */
  #curable(end) {
    if (end.reason === "status" ? !RETRIED_STATUSES.has(end.status ?? 0) : !RETRIED_REASONS.has(end.reason)) return false;
    // Without an id the answer would begin anew, and its text would stand there twice.
    return this.#got === 0 || this.#lastEventId !== "" || this.#options.terminal === null;
  }

  /** @param {End} end @param {number} failures attempts in a row that failed before @returns {number} */
  #delay(end, failures) {
    const { backoffMs, maxBackoffMs, random } = this.#options;
    const named = this.#retryMs !== null;
    const baseMs = named ? Math.max(this.#retryMs ?? 0, MIN_RETRY_MS) : backoffMs;
    const nominalMs = Math.min(baseMs * 2 ** Math.min(failures, 40), Math.max(maxBackoffMs, baseMs));
    return Math.round(nominalMs * ((named ? 1 : 0.5) + 0.5 * random())) + (end.retryAfterMs ?? 0);
  }

  /** @param {number} ms */
  async #sleep(ms) {
    let timer;
    await Promise.race([new Promise(resolve => (timer = setTimeout(resolve, ms))), this.#stopped]);
    clearTimeout(timer);
  }
}

/** A limit to how long nothing may come; what waits for our own user does not count. */
class Silence {
  over = false;
  #ms;
  #abort;

  /** @param {number} ms @param {() => void} abort */
  constructor(ms, abort) {
    this.#ms = ms;
    this.#abort = abort;
  }

  /** @template T @param {Promise<T>} promise @returns {Promise<T>} */
  async bound(promise) {
    const timer = this.#ms > 0 ? setTimeout(() => this.#end(), this.#ms) : undefined;
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
    }
  }

  #end() {
    this.over = true;
    this.#abort();
  }
}

/** @type {Required<ConsumerOptions>} */
const DEFAULTS = {
  method: "GET",
  headers: {},
  body: null,
  lastEventId: "",
  retries: 5,
  backoffMs: 250,
  maxBackoffMs: 8000,
  highWater: 1000,
  idleMs: 60_000,
  maxEventChars: MAX_EVENT_CHARS,
  terminal: event => event.type === "done",
  failure: event => event.type === "error",
  heartbeat: event => event.type === "ping",
  random: Math.random,
  onopen: () => {},
  onevent: () => {},
  onretry: () => {},
  onend: () => {},
};
/** @type {["retries" | "backoffMs" | "maxBackoffMs" | "highWater" | "idleMs" | "maxEventChars", number][]} */
const LEAST = [["retries", 0], ["backoffMs", 1], ["maxBackoffMs", 1], ["highWater", 1], ["idleMs", 0], ["maxEventChars", 1]];
/** @type {End} */
const STOPPED = { reason: "stopped", message: "It was closed from our side." };
/** @type {End} */
const EOF = { reason: "eof", message: "The connection ended before the answer did." };

/** @typedef {{prefix: string, number: bigint}} Place */

/** What an id says of its event's place. @param {string} id @returns {Place | null} */
function placeOf(id) {
  const match = NUMBERED.exec(id);
  return match ? { prefix: match[1], number: BigInt(match[2]) } : null;
}

/** Whether an id's number is not above that of `place`, in the same numbering. @param {string} id @param {Place | null} place */
function isBehind(id, place) {
  const own = place && placeOf(id);
  return own !== null && own.prefix === place?.prefix && own.number <= place.number;
}

/** @param {End} end @param {boolean} got events had come @returns {string} */
function outcomeOf({ reason, status, retryAfterMs }, got) {
  if (reason === "terminal") return "complete";
  if (reason === "no-content") return got ? "complete" : "error-http";
  if (reason === "status" && (status === 429 || status === 503) && retryAfterMs != null) return "throttled";
  if (reason === "network") return got ? "cut" : "unreachable";
  const known = { cut: "cut", eof: "truncated", "idle-timeout": "stalled", "inband-error": "error-inband", stopped: "unfinished", callback: "unfinished" };
  return known[/** @type {keyof typeof known} */ (reason)] ?? "error-http";
}

/** Retry-After in ms from now (seconds or a date), null for neither. @param {string | null} value @returns {number | null} */
function retryAfter(value) {
  const text = (value ?? "").trim();
  const ms = DIGITS.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? null : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS);
}

/** The service's own sentence, `{"error": …}` or a line of text, bounded. @param {Response} response @param {string} type */
async function sentenceOf(response, type) {
  const reader = response.body?.getReader();
  if (!reader || !/^(application\/json|text\/plain)$/.test(essenceOf(type))) return "";
  const decoder = new TextDecoder();
  let text = "";
  for (let size = 0; size < SENTENCE_BYTES; ) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    text += decoder.decode(value, { stream: true });
  }
  void reader.cancel().catch(() => {});
  if (essenceOf(type) === "text/plain") return text.slice(0, 300).trim();
  const said = JSON.parse(text)?.error;
  const sentence = said?.message ?? said;
  return typeof sentence === "string" ? sentence.slice(0, 300) : "";
}

/** @param {ReadableStreamDefaultReader<Uint8Array>} reader @param {() => void} abort */
async function letEnd(reader, abort) {
  const timer = setTimeout(abort, LEAVE_MS);
  try {
    while (!(await reader.read()).done);
  } catch {
    // It was complete before.
  }
  clearTimeout(timer);
}

/** @param {string} type */
function essenceOf(type) {
  return type.split(";")[0].trim().toLowerCase();
}

/** @param {unknown} cause */
function messageOf(cause) {
  return cause instanceof Error ? cause.message : String(cause);
}

/** @param {unknown} value @returns {value is PromiseLike<unknown>} */
function isThenable(value) {
  return typeof (/** @type {any} */ (value)?.then) === "function";
}

/** On the wall clock, as fine as the browser tells. */
function nowMs() {
  return performance.timeOrigin + performance.now();
}
