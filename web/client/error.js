/** The one error class of the client module. */

/** Codes of the wire, and those the client itself adds: `disconnected`, `closed` and `aborted`. */
export class TrestleError extends Error {
  /**
   * @param {string} code One of the wire's closed list, or `disconnected`, `closed`, `aborted`.
   * @param {string} reason For people.
   * @param {boolean} retry Whether the same request may succeed later.
   */
  constructor(code, reason, retry) {
    super(reason === "" ? code : `${code}: ${reason}`);
    this.name = "TrestleError";
    this.code = code;
    this.reason = reason;
    this.retry = retry;
  }
}
