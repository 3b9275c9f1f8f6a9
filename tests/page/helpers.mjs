// What the checks of the page need: nodes, the app's file written by somebody else, a browser that
// is driven with the mouse or with the keyboard alone.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const BINARY = process.env.STORYSYNC ?? "target/debug/storysync";
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WITHIN = 20_000;

export const SCHEMA = `
  CREATE TABLE faction (id INTEGER PRIMARY KEY, name VARCHAR(120) NOT NULL);
  CREATE TABLE character (
    id INTEGER PRIMARY KEY, name VARCHAR(120) NOT NULL, job VARCHAR(120), notes TEXT, age INTEGER,
    faction_id INTEGER REFERENCES faction (id));`;

/** A folder of its own with a database in it, and the commands of the program on it. */
export class Desk {
  constructor(name) {
    this.name = name;
    this.folder = mkdtempSync(join(tmpdir(), `storysync-page-${name}-`));
    this.database = join(this.folder, "story.db");
    this.data = join(this.folder, "data");
    mkdirSync(this.data, { mode: 0o700 });
    this.children = [];
  }

  /** Statements of the app, in one transaction. */
  sql(statements) {
    const program = `
import sqlite3, sys, json
connection = sqlite3.connect(sys.argv[1], timeout=20)
if sys.argv[2].lstrip().upper().startswith("SELECT"):
    print(json.dumps(connection.execute(sys.argv[2]).fetchall()))
else:
    connection.executescript("BEGIN;" + sys.argv[2] + ";COMMIT;")
    print("[]")`;
    const run = spawnSync("python3", ["-c", program, this.database, statements], {
      encoding: "utf8",
    });
    assert.equal(run.status, 0, run.stderr);
    return JSON.parse(run.stdout);
  }

  settings(text) {
    writeFileSync(join(this.data, "config.toml"), text);
  }

  #words(words) {
    return [...words, "--db", this.database, "--data-dir", this.data];
  }

  /** Runs a command; its JSON. */
  json(...words) {
    const run = spawnSync(BINARY, this.#words([...words, "--json"]), { encoding: "utf8" });
    assert.ok(run.stdout, `${words.join(" ")}: ${run.stderr}`);
    return JSON.parse(run.stdout);
  }

  /** Starts a command that goes on. */
  start(...words) {
    const child = spawn(BINARY, this.#words(words), { stdio: ["ignore", "pipe", "pipe"] });
    child.said = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (data) => (child.said += data));
    }
    child.ended = new Promise((ended) => child.on("exit", ended));
    this.children.push(child);
    return child;
  }

  /** Starts a node and waits until it is ready. */
  async serve(...words) {
    const child = this.start(
      "serve", "--host", "127.0.0.1", "--port", "0", "--admin-port", "0", "--no-discovery",
      ...words,
    );
    await until(() => child.said.includes("READY"), () => child.said);
    return child;
  }

  async stop(child) {
    child.kill("SIGTERM");
    await child.ended;
  }

  async end() {
    // The node `open` started is nobody's child here: its admin file names it.
    try {
      process.kill(JSON.parse(readFileSync(join(this.data, "admin.json"), "utf8")).pid, "SIGTERM");
    } catch {}
    for (const child of this.children) child.kill("SIGKILL");
  }
}

/** Waits until something is so. */
export async function until(so, why = () => "") {
  const begun = Date.now();
  for (;;) {
    const found = await so();
    if (found) return found;
    if (Date.now() - begun > WITHIN) throw new Error(`it did not come to be: ${why()}\n${so}`);
    await new Promise((later) => setTimeout(later, 100));
  }
}

/** A browser with everything off that would talk to somebody else. */
export function browser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
  });
}

/** A person at the page: with the mouse, or with the keyboard alone. */
export class Person {
  constructor(page, keyboardAlone) {
    this.page = page;
    this.keyboardAlone = keyboardAlone;
    this.requests = new Set();
    this.troubles = [];
    page.on("request", (request) => this.requests.add(new URL(request.url()).host));
    page.on("pageerror", (error) => this.troubles.push(String(error)));
    page.on("dialog", (dialog) => this.troubles.push(`a dialog: ${dialog.message()}`));
    page.on("console", (line) => {
      // A node that was stopped on purpose is told by the browser, too.
      const expected = /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE|ERR_EMPTY|status of 4/;
      if (line.type() === "error" && !expected.test(line.text())) this.troubles.push(line.text());
    });
    page.setDefaultTimeout(WITHIN);
  }

  see(text) {
    return this.page.getByText(text).first().waitFor();
  }

  /** Moves the focus to an element by Tab, as somebody without a mouse does. */
  async reach(element) {
    await element.waitFor();
    for (let presses = 0; presses < 300; presses += 1) {
      const there = await element.evaluate((node) => node === document.activeElement);
      if (there) return;
      await this.page.keyboard.press("Tab");
    }
    throw new Error(`Tab does not lead to ${element}`);
  }

  async press(element) {
    if (!this.keyboardAlone) return element.click();
    await this.reach(element);
    const kind = await element.evaluate((node) => node.type ?? node.nodeName);
    await this.page.keyboard.press(/radio|checkbox/.test(kind) ? "Space" : "Enter");
  }

  async type(element, text) {
    if (!this.keyboardAlone) return element.fill(text);
    await this.reach(element);
    await this.page.keyboard.press("Control+A");
    await this.page.keyboard.type(text);
  }

  button(name) {
    return this.page.getByRole("button", { name });
  }

  link(name) {
    return this.page.getByRole("link", { name });
  }

  async go(path) {
    await this.page.goto(new URL(path, this.page.url()).href);
  }

  /** What axe-core finds wrong with the view, and whether it is wider than its window. */
  async check(view) {
    await this.page.evaluate(AXE);
    const found = await this.page.evaluate(async () => {
      const run = await globalThis.axe.run(document, { resultTypes: ["violations"] });
      return run.violations.map((one) =>
        `${one.id}: ${one.help} (${one.nodes.map((node) => node.html).join(" | ")})`);
    });
    assert.deepEqual(found, [], `${view}: ${found.join("\n")}`);
    const wide = await this.page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(wide <= 0, `${view} is ${wide} pixels wider than its window`);
  }
}
