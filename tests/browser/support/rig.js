/**
 * The client under test with its strings attached: what it says is logged, what it is told is plain
 * data, so that one script drives it in this process and in a browser's page.
 */

export function makeRig({ connect, Topic }, WebSocket) {
  const log = [];
  const subscriptions = new Map();
  const network = Object.assign(new EventTarget(), { onLine: true });
  let client;

  const bytesOf = (prefix) => (Array.isArray(prefix) ? Uint8Array.from(prefix) : prefix);
  const plain = (error) => ({ code: error.code, reason: error.reason, retry: error.retry, name: error.name });

  return {
    connect(url, { random, fakeNetwork, ...times } = {}) {
      client = connect(url, {
        fallback: false,
        ...times,
        WebSocket,
        random: random === undefined ? undefined : () => random,
        network: fakeNetwork ? network : undefined,
      });
      for (const state of ["connecting", "open", "waiting", "closed", "gap", "stale", "goodbye"]) {
        client.addEventListener(state, ({ detail }) => log.push({ at: Date.now(), what: state, detail: { ...detail } }));
      }
      client.addEventListener("error", ({ detail }) => log.push({ what: "error", detail: plain(detail) }));
    },
    /** A prefix is a string, or an array of bytes. */
    subscribe(name, prefixes, options = {}) {
      const subscription = client.subscribe(prefixes.map(bytesOf), {
        ...options,
        onEvent: (event) => log.push({ what: "event", name, event }),
        onGap: (loss) => log.push({ what: "loss", name, loss }),
      });
      subscriptions.set(name, subscription);
      subscription.ready.then(
        (subscribed) => log.push({ what: "ready", name, subscribed }),
        (error) => log.push({ what: "refused", name, error: plain(error) }),
      );
    },
    /** Subscribes for what the subscription dispatches. */
    listen(name, prefixes, options = {}) {
      const subscription = client.subscribe(prefixes.map(bytesOf), options);
      subscriptions.set(name, subscription);
      subscription.addEventListener("event", ({ detail }) => log.push({ what: "event", name, event: detail }));
      subscription.addEventListener("gap", ({ detail }) => log.push({ what: "loss", name, loss: detail }));
      subscription.addEventListener("end", ({ detail }) => log.push({ what: "end", name, error: detail ? plain(detail) : null }));
    },
    /** Subscribes for reading by `read`. */
    queue(name, prefixes, options = {}) {
      const onGap = (loss) => log.push({ what: "loss", name, loss });
      const subscription = client.subscribe(prefixes.map(bytesOf), { ...options, onGap });
      subscriptions.set(name, Object.assign(subscription, { reader: subscription[Symbol.asyncIterator]() }));
    },
    async read(name) {
      try {
        const { value, done } = await subscriptions.get(name).reader.next();
        return done ? "end" : value;
      } catch (error) {
        return { thrown: plain(error) };
      }
    },
    /** Leaves a `for await` loop after so many events, and gives them. */
    async loop(name, events) {
      const seen = [];
      for await (const event of subscriptions.get(name)) {
        seen.push(event);
        if (seen.length === events) break;
      }
      return seen;
    },
    unsubscribe(name) {
      void subscriptions.get(name).unsubscribe().then(() => log.push({ what: "left", name }));
    },
    reconnect: () => client.reconnect(),
    close: () => client.close(),
    state: () => client.state,
    online(onLine) {
      network.onLine = onLine;
      network.dispatchEvent(new Event(onLine ? "online" : "offline"));
    },
    of(name) {
      const { position, dropped, caughtUp, ended } = subscriptions.get(name);
      return { position, dropped, caughtUp, ended };
    },
    matches: (topic, prefix, exact) => Topic.from(bytesOf(topic)).matches(Topic.from(bytesOf(prefix)), exact),
    log: () => log,
  };
}
