/** Sample messages of a field, byte for byte, with what says that they are so. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Frame, offset in it, bytes in hexadecimal, and what they are. */
const FIELD = /^(\d+) (\d+) ([0-9a-f]+) {2}\S/;

/** The messages of a file in `fixtures`.
 * @returns {Map<string, Buffer[]>} Each one's frames by its name. */
export function messagesOf(file) {
  const text = readFileSync(fileURLToPath(new URL(`../fixtures/${file}`, import.meta.url)), "utf8");
  const messages = new Map();
  let frames;
  for (const line of text.split("\n").filter((line) => line && !line.startsWith("#"))) {
    const field = line.match(FIELD);
    if (!field) {
      messages.set(line, (frames = []));
      continue;
    }
    const [frame, offset, bytes] = [Number(field[1]), Number(field[2]), Buffer.from(field[3], "hex")];
    if (offset === 0) frames.push(bytes);
    else if (frames[frame]?.length === offset) frames[frame] = Buffer.concat([frames[frame], bytes]);
    if (frames.length !== frame + 1 || frames[frame].length !== offset + bytes.length) throw new Error(`${file}: not in order: ${line}`);
  }
  return messages;
}
