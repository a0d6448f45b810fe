/** Each recipe is in the index and has a test; a text that is not tried does not stay. */

import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { relocate } from "./support/document.js";

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

test("each recipe is tested and in the index", () => {
  const recipes = readdirSync(path("../../docs/recipes")).filter((file) => file !== "README.md");
  const index = readFileSync(path("../../docs/recipes/README.md"), "utf8");
  assert.ok(recipes.length > 0);
  for (const file of recipes) {
    assert.ok(index.includes(`](${file})`), `${file} is not in the index`);
    assert.ok(existsSync(path(file.replace(/\.md$/, ".test.js"))), `${file} has no test`);
  }
});

test("addresses move to this machine, and nothing else in a text does", () => {
  const ports = new Map([[5556, 20001], [9500, 20002], [8080, 20003]]);
  const moved = {
    'bind("tcp://*:5556")': 'bind("tcp://*:20001")',
    "--source eddn=tcp://eddn.example.org:9500 -x": "--source eddn=tcp://127.0.0.1:20002 -x",
    "http://127.0.0.1:8080/ws?a=b:5556": "http://127.0.0.1:20003/ws?a=b:5556",
    "publish_port: 8080, port: 8080": "publish_port: 20003, port: 8080",
    "tcp://localhost:5556, 10:30 and {a:5556}": "tcp://127.0.0.1:20001, 10:30 and {a:5556}",
  };
  for (const [text, expected] of Object.entries(moved)) assert.equal(relocate(text, ports), expected);
});
