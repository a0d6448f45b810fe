/** A recipe as its document has it: code blocks by name, each to be used by a test. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const RECIPES = fileURLToPath(new URL("../../../docs/recipes/", import.meta.url));
const REQUIREMENTS = fileURLToPath(new URL("../requirements.txt", import.meta.url));

/** Three backticks, the language, and the name that tests know a block by: a file's, or that of a role. */
const BLOCK = /^```(\w+) ([\w./-]+)\n(.*?)^```$/gms;
const FENCE = /^```.*$/gm;
/** A host and a port, with or without a scheme; or a setting that is a port. */
const ADDRESS = /(?:(127\.0\.0\.1|localhost|\*|\[::\]|[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)+):|(?<=_port: ))(\d{2,5})\b/g;

/** The blocks of one document in docs/recipes. */
export class Document {
  static #read = new Map();
  #blocks = new Map();
  #used = new Set();

  /** The same for all tests of a process: what one of them has used is used.
   * @param {string} name Of its file, without `.md`. */
  static of(name) {
    if (!Document.#read.has(name)) Document.#read.set(name, new Document(name));
    return Document.#read.get(name);
  }

  constructor(name) {
    this.path = `docs/recipes/${name}.md`;
    const text = readFileSync(`${RECIPES}${name}.md`, "utf8");
    for (const [, language, block, body] of text.matchAll(BLOCK)) {
      if (this.#blocks.has(block)) throw new Error(`${this.path} has two blocks named ${block}`);
      this.#blocks.set(block, { language, body });
    }
    const fences = [...text.matchAll(FENCE)].length;
    if (fences !== 2 * this.#blocks.size) throw new Error(`${this.path} has a block without a language and a name`);
  }

  /** The text of a block, which counts as tested. */
  block(name) {
    this.#used.add(name);
    return this.peek(name);
  }

  /** The text of a block, which somebody else will use. */
  peek(name) {
    const block = this.#blocks.get(name);
    if (!block) throw new Error(`${this.path} has no block named ${name}`);
    return block.body;
  }

  /** Names of the blocks that are files to be saved. */
  get files() {
    return [...this.#blocks.keys()].filter((name) => /[./]/.test(name));
  }

  /** Each port that the recipe names, and `more` that its programs listen at without being told. */
  ports(...more) {
    const named = [...this.#blocks.values()].flatMap(({ body }) => [...body.matchAll(ADDRESS)].map((match) => Number(match[2])));
    return [...new Set([...named, ...more])];
  }

  /** What no test has used: nothing stands in a recipe that was not tried. */
  get unused() {
    return [...this.#blocks.keys()].filter((name) => !this.#used.has(name));
  }
}

/** The addresses in a text at ports of this machine that are free.
 * @param {string} text
 * @param {Map<number, number>} ports */
export function relocate(text, ports) {
  const place = (host) => (host === undefined ? "" : host === "*" ? "*:" : "127.0.0.1:");
  return text.replace(ADDRESS, (_, host, port) => `${place(host)}${ports.get(Number(port))}`);
}

/** Whether the tests' environment was made with all that `pip install …` names. */
export function installs(command) {
  const pinned = readFileSync(REQUIREMENTS, "utf8").split("\n").map((line) => line.split("==")[0]);
  const [, names] = command.trim().match(/^pip install ([\w\s-]+)$/) ?? [];
  return names !== undefined && names.split(/\s+/).every((name) => pinned.includes(name));
}
