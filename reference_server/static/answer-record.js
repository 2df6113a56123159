/**
 * What one reader got of an answer: its text, and what its events' numbers say was lost or came twice.
 *
 * Rules (reference: the reference server's `wire.py`):
 * - An id is `key-number`, numbers begin at 1. A heartbeat repeats the last id and an error has none: neither counts.
 * - Lost is what lies below the highest number and never came. Without numbers lost and doubled are not known (null), never 0.
 * - `done` names the SHA-256 of the whole text.
 */

/** Longer answers are no answers; a tab has to stay usable. */
export const MAX_TEXT_CHARS = 2_000_000;
/** With more holes than this the numbers are no numbering. */
export const MAX_RANGES = 1000;

const NUMBER = /-([1-9][0-9]{0,14})$/;
const UNCOUNTED = new Set(["ping", "error"]);

export class AnswerRecord {
  text = "";
  events = 0;
  /** The first piece of text, in ms since 1970. @type {number | null} */
  firstTokenMs = null;
  /** What `done` named. @type {string | null} */
  sha256 = null;
  /** The message of an `error` event. @type {string | null} */
  error = null;
  /** Deltas whose data could not be read. */
  unreadable = 0;
  #doubled = 0;
  #numbered = 0;
  /** Received, ascending, both ends inclusive. @type {[number, number][]} */
  #ranges = [];

  /**
   * Takes an event in.
   * @param {{type: string, id: string, data: string, atMs: number}} event
   * @returns {{text: string, isNew: boolean}} the text that it adds, and whether its number had not come before
   * @throws {RangeError} when the answer is too long to be one
   */
  take({ type, id, data, atMs }) {
    if (type === "ping") return { text: "", isNew: false };
    this.events += 1;
    const isNew = UNCOUNTED.has(type) || this.#count(id);
    const { text, sha256, message } = fieldsOf(data);
    if (type === "done" && typeof sha256 === "string") this.sha256 = sha256;
    if (type === "error") this.error = typeof message === "string" ? message.slice(0, 500) : "no reason given";
    if (type !== "delta") return { text: "", isNew };
    if (typeof text !== "string") {
      this.unreadable += 1;
      return { text: "", isNew };
    }
    if (this.text.length + text.length > MAX_TEXT_CHARS) throw new RangeError("The answer is too long.");
    this.firstTokenMs ??= atMs;
    this.text += text;
    return { text, isNew };
  }

  /** Events that never came, as far as a later one shows it. @returns {number | null} */
  get lost() {
    if (!this.#known) return null;
    let next = 1;
    let lost = 0;
    for (const [first, last] of this.#ranges) {
      lost += first - next;
      next = last + 1;
    }
    return lost;
  }

  /** Events that came more than once. @returns {number | null} */
  get doubled() {
    return this.#known ? this.#doubled : null;
  }

  /** U+FFFD in the text. */
  get broken() {
    return this.text.split("\uFFFD").length - 1;
  }

  /** Whether the text is the one `done` named; null where that or the browser's digest is missing. @returns {Promise<boolean | null>} */
  async isExact() {
    if (this.sha256 === null || !globalThis.crypto?.subtle) return null;
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(this.text)));
    return Array.from(digest, byte => byte.toString(16).padStart(2, "0")).join("") === this.sha256;
  }

  get #known() {
    return this.#numbered > 0 && this.#ranges.length < MAX_RANGES;
  }

  /** @param {string} id */
  #count(id) {
    const match = NUMBER.exec(id);
    if (!match) return true;
    const number = Number(match[1]);
    this.#numbered += 1;
    let at = this.#ranges.length;
    while (at > 0 && this.#ranges[at - 1][0] > number) at -= 1;
    const before = this.#ranges[at - 1];
    if (before && number <= before[1]) {
      this.#doubled += 1;
      return false;
    }
    if (before && number === before[1] + 1) before[1] = number;
    else if (this.#ranges.length < MAX_RANGES) this.#ranges.splice(at, 0, [number, number]);
    return true;
  }
}

/** @param {string} data @returns {Record<string, unknown>} */
function fieldsOf(data) {
  try {
    const fields = JSON.parse(data);
    return typeof fields === "object" && fields !== null ? fields : {};
  } catch {
    return {};
  }
}
