/**
 * Shows streamed text at a reader's pace: even where the network comes in bursts, and with a breath after sentences.
 *
 * Rules:
 * - A character is what a reader takes for one (Intl.Segmenter, "grapheme"): a letter with its marks, a family of emoji. None
 *   is ever shown in parts; the last one waits until what follows tells that it is over, or until `flush`.
 * - After . ! ? ؟ 。 comes a long pause, after , ; : ، a short one; within ?! or … only after the last, within 3.14 or 12:30
 *   none.
 * - No character waits longer than `maxLagMs`: where text comes faster than it is read, the pace rises evenly.
 * - Who asked for less motion, and who does not look (a hidden page), gets the text as it comes.
 *
 * A module without dependencies.
 */

/** Pause after the end of a sentence, in characters' times. */
export const LONG_PAUSE = 10;
/** Pause within a sentence, in characters' times. */
export const SHORT_PAUSE = 5;
/** A longer "character" than any language has is cut: marks without end are no reason to wait without end. */
export const MAX_GRAPHEME_CHARS = 256;

const LONG = new Set(".!?؟。！？۔।…");
const SHORT = new Set(",;:،؛、，；：");
const INSIDE_NUMBERS = new Set(".,:");

/**
 * @typedef {object} TypewriterOptions
 * @property {number} [charsPerSecond] the pace when there is no hurry
 * @property {number} [maxLagMs] how long a finished character may wait
 * @property {boolean} [reducedMotion] the system's setting unless given
 * @property {() => number} [now] ms on a clock that never goes back
 * @property {(step: () => void) => (() => void)} [frame] calls `step` before the next picture; gives what calls it off
 */

/** @typedef {{text: string, pause: number}} Grapheme the text, and what follows it in characters' times */
/** @typedef {{graphemes: Grapheme[], next: number, left: number, arrivedMs: number}} Batch what came at one moment */

export class AdaptiveTypewriter {
  #write;
  #msPerChar;
  #maxLagMs;
  #reduced;
  #now;
  #frame;
  #segmenter = new Intl.Segmenter(undefined, { granularity: "grapheme" });
  /** The beginning of a character that may go on. */
  #open = "";
  /** @type {Batch[]} */
  #batches = [];
  /** When the next character may be shown. */
  #dueMs = -Infinity;
  /** @type {(() => void) | null} */
  #callOff = null;
  /** @type {(() => void)[]} */
  #waiting = [];

  /**
   * @param {(text: string) => void} write appends text, whole characters only, at most once a picture
   * @param {TypewriterOptions} [options]
   * @throws {RangeError} for a pace or lag that is not positive
   */
  constructor(write, { charsPerSecond = 90, maxLagMs = 1200, reducedMotion, now, frame } = {}) {
    if (!(charsPerSecond > 0) || !(maxLagMs > 0)) throw new RangeError("charsPerSecond and maxLagMs are above 0.");
    this.#write = write;
    this.#msPerChar = 1000 / charsPerSecond;
    this.#maxLagMs = maxLagMs;
    const asked = globalThis.matchMedia?.("(prefers-reduced-motion: reduce)");
    this.#reduced = () => reducedMotion ?? asked?.matches ?? false;
    this.#now = now ?? (() => performance.now());
    this.#frame = frame ?? (step => nextPicture(step, maxLagMs));
  }

  /** How long the oldest finished character has been waiting, in ms. */
  get behindMs() {
    return this.#batches.length > 0 ? this.#now() - this.#batches[0].arrivedMs : 0;
  }

  /** Takes a piece of text, cut anywhere between two code points. @param {string} text */
  push(text) {
    this.#add(this.#finished(text));
    this.#go();
  }

  /** Shows everything at once, the last character included: the text is over, or is to be read now. */
  flush() {
    this.#end();
    this.#show(Infinity);
  }

  /** Lets the rest be shown at its pace, the last character included. @returns {Promise<void>} when all is shown */
  finish() {
    this.#end();
    /** @type {Promise<void>} */
    const shown = new Promise(resolve => this.#waiting.push(resolve));
    this.#go();
    return shown;
  }

  #end() {
    if (this.#open) this.#add([{ text: this.#open, pause: 1 }]);
    this.#open = "";
  }

  /** @param {Grapheme[]} graphemes */
  #add(graphemes) {
    if (graphemes.length === 0) return;
    const nowMs = this.#now();
    // A pause that nobody had to wait for is no credit.
    if (this.#batches.length === 0) this.#dueMs = Math.max(this.#dueMs, nowMs);
    const left = graphemes.reduce((sum, { pause }) => sum + pause, 0);
    this.#batches.push({ graphemes, next: 0, left, arrivedMs: nowMs });
  }

  /** The characters that are over with this text; the last one stays open. @param {string} text @returns {Grapheme[]} */
  #finished(text) {
    const pieces = Array.from(this.#segmenter.segment(this.#open + text), ({ segment }) => segment);
    this.#open = pieces.pop() ?? "";
    if (this.#open.length > MAX_GRAPHEME_CHARS) {
      const half = /[\uD800-\uDBFF]$/.test(this.#open) ? 1 : 0;
      pieces.push(this.#open.slice(0, this.#open.length - half));
      this.#open = half ? this.#open.slice(-1) : "";
    }
    return pieces.map((piece, at) => ({ text: piece, pause: pauseAfter(piece, pieces[at + 1] ?? this.#open) }));
  }

  /** Shows what may be shown now, and sees to the rest. */
  #go() {
    if (this.#reduced() || globalThis.document?.hidden) this.#show(Infinity);
    else if (this.#callOff === null) this.#step();
  }

  #step() {
    this.#callOff = null;
    this.#show(this.#now());
    if (this.#batches.length > 0) this.#callOff = this.#frame(() => this.#step());
  }

  /** Shows what is due at `nowMs`; Infinity: everything. @param {number} nowMs */
  #show(nowMs) {
    const msPerChar = this.#msPerChar / this.#speed(nowMs);
    let text = "";
    for (let batch = this.#batches[0]; batch; batch = this.#batches[0]) {
      if (this.#dueMs > nowMs) break;
      const { text: one, pause } = batch.graphemes[batch.next];
      text += one;
      batch.next += 1;
      batch.left -= pause;
      this.#dueMs += pause * msPerChar;
      if (batch.next === batch.graphemes.length) this.#batches.shift();
    }
    if (text) this.#write(text);
    if (this.#batches.length > 0) return;
    this.#callOff?.();
    this.#callOff = null;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** The lowest speed at which everything, pauses included, is over before its time. @param {number} nowMs */
  #speed(nowMs) {
    let speed = 1;
    let chars = 0;
    for (const { left, arrivedMs } of this.#batches) {
      chars += left;
      speed = Math.max(speed, (chars * this.#msPerChar) / Math.max(arrivedMs + this.#maxLagMs - nowMs, 1));
    }
    return speed;
  }
}

/** @param {string} one @param {string} next what follows, "" when nothing is known @returns {number} */
function pauseAfter(one, next) {
  const pause = LONG.has(one) ? LONG_PAUSE : SHORT.has(one) ? SHORT_PAUSE : 1;
  if (LONG.has(next) || (INSIDE_NUMBERS.has(one) && /^\p{Nd}/u.test(next))) return 1;
  return pause;
}

/** Before the next picture, or when none is drawn within `latestMs`. @param {() => void} step @param {number} latestMs */
function nextPicture(step, latestMs) {
  const once = () => {
    callOff();
    step();
  };
  const picture = requestAnimationFrame(once);
  const timer = setTimeout(once, latestMs);
  const callOff = () => {
    cancelAnimationFrame(picture);
    clearTimeout(timer);
  };
  return callOff;
}
