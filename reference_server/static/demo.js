/**
 * The demo page: one answer, read by SSEConsumer and by EventSource side by side.
 *
 * Rules: whatever a service sends becomes text nodes, never markup. The token stays in its field: it is read for each
 * question, goes into a header only, and is nowhere kept. What is read aloud is a sentence a state, never a token.
 */

import { AdaptiveTypewriter } from "./adaptive-typewriter.js";
import { AnswerRecord } from "./answer-record.js";
import { SSEConsumer } from "./sse-consumer.js";

const CHAT_PATH = "/api/v1/stream/chat";
const TYPES = ["hello", "delta", "progress", "done", "ping", "message"];
/** @type {Record<string, object>} */
const PACES = { slow: { interval_ms: 200 }, ordinary: {}, fast: { first_token_ms: 20, interval_ms: 5 } };
const LOG_LINES = 40;
const MARKS = { idle: "○", connecting: "◔", open: "●", waiting: "…", complete: "✓", failed: "✕", stopped: "■" };

/** @template {HTMLElement} T @param {string} selector @param {ParentNode} [root] @returns {T} */
const one = (selector, root = document) => /** @type {T} */ (root.querySelector(selector));
const nowMs = () => performance.timeOrigin + performance.now();
/** @param {number} ms */
const shown = ms => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`);

/** @typedef {keyof typeof MARKS} State */

/** One reader's side of the page. */
class Column {
  record = new AnswerRecord();
  #root;
  #name;
  #startMs = 0;
  #connections = 0;
  #repeats = 0;
  /** @type {number | null} */
  #brokenAtMs = null;
  /** @type {number[]} */
  #reconnectedMs = [];
  #text = document.createTextNode("");
  /** The question this belongs to; callbacks of an earlier one find another number here. */
  #question = 0;
  #timer = 0;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
    this.#name = one("h2", root).textContent ?? "";
    root.append(/** @type {HTMLTemplateElement} */ (one("#column")).content.cloneNode(true));
  }

  /** Clears the column for a question. */
  begin() {
    this.#question += 1;
    this.record = new AnswerRecord();
    this.#startMs = nowMs();
    this.#connections = 1;
    this.#repeats = 0;
    this.#brokenAtMs = null;
    this.#reconnectedMs = [];
    this.#text = document.createTextNode("");
    one(".answer", this.#root).replaceChildren(this.#text);
    one(".log", this.#root).replaceChildren();
    this.state("connecting", "connecting");
    this.#figures();
    return this.#question;
  }

  /** @param {number} question */
  isCurrent(question) {
    return question === this.#question;
  }

  /** @param {State} state @param {string} word */
  state(state, word) {
    const line = one(".state", this.#root);
    line.dataset.state = state;
    one(".mark", line).textContent = MARKS[state];
    one(".word", line).textContent = word;
  }

  /** @param {string} text */
  show(text) {
    this.#text.appendData(text);
  }

  opened() {
    this.state("open", "open");
    this.log(this.#connections === 1 ? "connected" : `connected again, connection ${this.#connections}`);
  }

  /** @param {string} what */
  broken(what) {
    this.#brokenAtMs ??= nowMs();
    this.#connections += 1;
    this.state("waiting", what);
    this.log(what);
    say(`${this.#name}: ${what}`);
    this.#figures();
  }

  /** Takes an event in. @param {{type: string, id: string, data: string, atMs: number}} event @returns {string} its text */
  take(event) {
    const first = this.record.firstTokenMs === null;
    const { text, isNew } = this.record.take(event);
    if (isNew && this.#brokenAtMs !== null) {
      this.#reconnectedMs.push(event.atMs - this.#brokenAtMs);
      this.#brokenAtMs = null;
      this.state("open", "open");
    }
    if (first && this.record.firstTokenMs !== null) this.log("first token");
    if (event.type === "progress") this.log(`progress: ${event.data.slice(0, 200)}`);
    this.#timer ||= setTimeout(() => this.#figures(), 100);
    return text;
  }

  /** @param {State} state @param {string} word @param {number} [repeats] */
  async end(state, word, repeats = 0) {
    const question = this.#question;
    this.#repeats = repeats;
    this.state(state, word);
    this.log(word);
    const exact = await this.record.isExact();
    if (!this.isCurrent(question)) return;
    const { lost, doubled } = this.record;
    if (state === "complete" && (exact === false || lost || doubled)) this.state("failed", (word = "damaged: it ended, but not as it was sent"));
    this.#figures();
    const verdict = exact === null ? ["not compared", ""] : exact ? ["exact", "good"] : ["differs", "bad"];
    this.#figure("text", this.record.text ? `${this.record.text.length} chars, ${verdict[0]}` : "none", verdict[1]);
    say(`${this.#name}: ${word}; text ${verdict[0]}.`);
  }

  /** @param {string} what */
  log(what) {
    const lines = one(".log", this.#root);
    if (lines.childElementCount >= LOG_LINES) return;
    const line = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = `${((nowMs() - this.#startMs) / 1000).toFixed(2)} s`;
    const text = document.createElement("span");
    text.textContent = lines.childElementCount === LOG_LINES - 1 ? "… and more" : what;
    line.append(time, text);
    lines.append(line);
  }

  #figures() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const { firstTokenMs, events, lost, doubled, broken, text } = this.record;
    const reconnections = this.#reconnectedMs;
    this.#figure("ttft", firstTokenMs === null ? "–" : shown(firstTokenMs - this.#startMs));
    this.#figure("connections", String(this.#connections));
    this.#figure("reconnected", reconnections.length === 0 ? "–" : `${reconnections.length} ×, ${shown(Math.max(...reconnections))}`);
    this.#figure("events", String(events));
    this.#count("lost", lost);
    this.#count("doubled", doubled, this.#repeats ? ` (${this.#repeats} left out)` : "");
    this.#count("broken", events === 0 ? null : broken);
    this.#figure("text", text ? `${text.length} chars` : "–");
  }

  /** @param {string} name @param {number | null} count @param {string} [more] */
  #count(name, count, more = "") {
    this.#figure(name, count === null ? "–" : `${count}${more}`, count === null ? "" : count ? "bad" : "good");
  }

  /** @param {string} name @param {string} text @param {string} [kind] */
  #figure(name, text, kind = "") {
    const figure = one(`[data-figure="${name}"]`, this.#root);
    figure.textContent = text;
    figure.className = kind;
  }
}

/** Read aloud when there is time for it; only states, never text. @param {string} sentence */
function say(sentence) {
  one("#said").textContent = sentence;
}

/** @param {Column} column @param {Record<string, unknown>} wishes @param {string} token @returns {() => void} what stops it */
function askCarefully(column, wishes, token) {
  const question = column.begin();
  const writer = new AdaptiveTypewriter(text => {
    if (column.isCurrent(question)) column.show(text);
  });
  const consumer = new SSEConsumer(CHAT_PATH, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) },
    body: JSON.stringify(wishes),
    onopen: () => column.opened(),
    onevent: event => {
      const text = column.take(event);
      if (text) writer.push(text);
    },
    onretry: ({ reason, delayMs, attempt }) => column.broken(`${reason}; attempt ${attempt} in ${shown(delayMs)}`),
  });
  void consumer.start().then(({ outcome, error, repeats }) => {
    if (!column.isCurrent(question)) return;
    const stopped = outcome === "unfinished" && error?.reason === "stopped";
    if (stopped) writer.flush();
    else void writer.finish();
    if (outcome === "complete") return column.end("complete", "complete", repeats);
    const said = column.record.error ?? error?.message ?? "";
    return column.end(stopped ? "stopped" : "failed", stopped ? "stopped" : `${outcome}: ${said}`, repeats);
  }).finally(() => ended(consumer));
  return started(consumer, () => consumer.close());
}

/** @param {Column} column @param {Record<string, unknown>} wishes @returns {() => void} what stops it */
function askNatively(column, wishes) {
  const question = column.begin();
  const query = new URLSearchParams(Object.entries(wishes).map(([name, value]) => [name, String(value)]));
  const source = new EventSource(`${CHAT_PATH}?${query}`);
  /** @param {State} state @param {string} word */
  const finish = (state, word) => {
    source.close();
    ended(source);
    if (column.isCurrent(question)) void column.end(state, word);
  };
  /** @param {MessageEvent} event */
  const take = event => {
    try {
      column.show(column.take({ type: event.type, id: event.lastEventId, data: event.data, atMs: nowMs() }));
    } catch (error) {
      finish("failed", String(error));
    }
  };
  source.onopen = () => column.opened();
  for (const type of TYPES) {
    source.addEventListener(type, event => {
      take(event);
      if (type === "done") finish("complete", "complete");
    });
  }
  // An `error` event that the service sent and a broken connection arrive under the same name.
  source.onerror = event => {
    if (event instanceof MessageEvent) {
      take(event);
      finish("failed", `error-inband: ${column.record.error}`);
    } else if (source.readyState === EventSource.CLOSED) finish("failed", "closed for good: the browser tells no reason");
    else column.broken("broken; the browser says neither why nor when it will try again");
  };
  return started(source, () => finish("stopped", "stopped"));
}

/** @type {Map<object, () => void>} */
const running = new Map();

/** @param {object} reader @param {() => void} stop */
function started(reader, stop) {
  running.set(reader, stop);
  one("#stop").removeAttribute("disabled");
  return stop;
}

/** @param {object} reader */
function ended(reader) {
  running.delete(reader);
  one("#stop").toggleAttribute("disabled", running.size === 0);
}

function stopAll() {
  for (const stop of [...running.values()]) stop();
}

/** @param {string} sentence "" when there is none */
function problem(sentence) {
  one("#problem").textContent = sentence;
  one("#problem").hidden = sentence === "";
}

/** @returns {Promise<{answers: string, login: boolean}>} what this server does */
async function server() {
  const response = await fetch("/page.json", { cache: "no-store" });
  return response.json();
}

const careful = new Column(one("#careful"));
const native = new Column(one("#native"));
const question = /** @type {HTMLTextAreaElement} */ (one("#question"));
const script = /** @type {HTMLSelectElement} */ (one("#script"));
const pace = /** @type {HTMLSelectElement} */ (one("#pace"));
const token = /** @type {HTMLInputElement} */ (one("#token"));
const told = await server().catch(() => ({ answers: "script", login: true }));

one("#script-field").hidden = one("#pace-field").hidden = told.answers !== "script";
one("#token-field").hidden = !told.login;
one("#model-note").hidden = told.answers === "script";

one("#ask").addEventListener("submit", event => {
  event.preventDefault();
  stopAll();
  problem("");
  /** @type {Record<string, unknown>} */
  const wishes = { question: question.value };
  // Of a script both get the same answer; a model answers each of them anew.
  if (told.answers === "script") {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0];
    Object.assign(wishes, { script: script.value, seed, ...PACES[pace.value] });
  }
  try {
    askCarefully(careful, wishes, token.value.trim());
  } catch {
    void careful.end("failed", "not asked");
    problem("The token holds characters that no header can carry.");
    return;
  }
  askNatively(native, wishes);
  say("Asked.");
});
one("#stop").addEventListener("click", stopAll);
for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("[data-question]"))) {
  button.addEventListener("click", () => {
    question.value = button.dataset.question ?? "";
    script.value = button.dataset.script ?? "mixed";
    question.focus();
  });
}
document.body.dataset.ready = "yes";
