/** `Promise.withResolvers`, for engines that lack it. */

/** @template T
 * @returns {PromiseWithResolvers<T>} */
export function withResolvers() {
  /** @type {Partial<PromiseWithResolvers<T>>} */
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return /** @type {PromiseWithResolvers<T>} */ (parts);
}
