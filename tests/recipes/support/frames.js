/** What a WebSocket in a page got, as it came. */

/** Opens a `trestle.v1.json` WebSocket beside what the page has itself. */
export async function keepFrames(page, url) {
  await page.evaluate((url) => {
    globalThis.kept = [];
    const socket = new WebSocket(url, "trestle.v1.json");
    return new Promise((resolve) => {
      socket.onmessage = ({ data }) => {
        globalThis.kept.push(data);
        if (data.startsWith('{"welcome"')) resolve();
      };
    });
  }, url);
}

/** The text of each message so far. */
export function kept(page) {
  return page.evaluate(() => globalThis.kept);
}
