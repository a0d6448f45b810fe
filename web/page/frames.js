/** When to draw: at most once an animation frame, and no faster than people can read. */

/** Ten times a second; a number that changes faster is a blur, and each change costs layout. */
const PERIOD_MS = 100;

export class Frames {
  #draw;
  #asked = false;
  #drawnAt = -PERIOD_MS;

  /** @param {() => void} draw */
  constructor(draw) {
    this.#draw = draw;
  }

  /** Something changed. Cheap: called for each message. */
  request() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(this.#onFrame);
  }

  /** @param {number} now */
  #onFrame = (now) => {
    if (now - this.#drawnAt < PERIOD_MS) {
      requestAnimationFrame(this.#onFrame);
      return;
    }
    this.#asked = false;
    this.#drawnAt = now;
    this.#draw();
  };
}
