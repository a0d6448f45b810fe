/** A subscription as a store: a value that changes, as Svelte, React and Vue take it. */

/** @typedef {import("./wire.js").Event} Event */

/**
 * @template T
 * @typedef {object} StoreOptions
 * @property {T} initial
 * @property {(value: T, events: readonly Event[]) => T} reduce Of the events of a frame, at least one: gives another value, and changes
 *   nothing in the old one.
 */

/**
 * Subscribes while somebody listens. Those who do are told at most once a frame, however much comes.
 *
 * - Svelte: `$store`, as it has the store contract.
 * - React: `useSyncExternalStore(store.subscribe, store.getSnapshot)`.
 * - Vue: `const value = shallowRef(store.getSnapshot()); onScopeDispose(store.subscribe((now) => { value.value = now; }));`
 *
 * @template T
 * @typedef {object} Store
 * @property {(listener: (value: T) => void) => () => void} subscribe Calls the listener at once, and gives what ends it.
 * @property {() => T} getSnapshot The same value until it changes.
 */

/** Of a page at 60 Hz; a timer, since a page in the background has no frames. */
const FRAME_MS = 16;
/** Events that wait for the frame's end; with more they are reduced before. */
const EVENTS_MAX = 4096;
/** Topics that the value without a `reduce` of its own holds; the one that was quiet for longest leaves. */
export const TOPICS_MAX = 1000;

/**
 * @template T
 * @param {(onEvent: (event: Event) => void) => {unsubscribe: () => Promise<void>}} start
 * @param {StoreOptions<T>} options
 * @returns {Store<T>}
 */
export function storeOf(start, { initial, reduce }) {
  let value = initial;
  /** @type {Set<{listener: (value: T) => void}>} Not the listeners: one that listens twice is told twice. */
  const listeners = new Set();
  /** @type {{unsubscribe: () => Promise<void>} | null} */
  let subscription = null;
  let timer = 0;
  /** @type {Event[]} */
  let events = [];

  const take = () => {
    if (events.length > 0) value = reduce(value, events);
    events = [];
  };
  const tell = () => {
    timer = 0;
    take();
    for (const { listener } of [...listeners]) listener(value);
  };
  /** @param {Event} event */
  const onEvent = (event) => {
    events.push(event);
    if (events.length >= EVENTS_MAX) take();
    if (timer === 0) timer = Number(setTimeout(tell, FRAME_MS));
  };
  return {
    subscribe(listener) {
      const entry = { listener };
      listeners.add(entry);
      subscription ??= start(onEvent);
      listener(value);
      return () => {
        if (!listeners.delete(entry) || listeners.size > 0) return;
        void subscription?.unsubscribe();
        subscription = null;
        clearTimeout(timer);
        timer = 0;
        take();
      };
    },
    getSnapshot: () => value,
  };
}

/** The last event of each topic, those that came last at the end.
 * @type {StoreOptions<ReadonlyMap<string, Event>>} */
export const LAST_VALUES = {
  initial: new Map(),
  reduce(values, events) {
    const next = new Map(values);
    for (const event of events) {
      const topic = event.topic ?? event.topic_base64 ?? "";
      next.delete(topic);
      next.set(topic, event);
      if (next.size > TOPICS_MAX) next.delete(/** @type {string} */ (next.keys().next().value));
    }
    return next;
  },
};
