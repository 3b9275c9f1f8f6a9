// The whole story in a browser on the real program: a file nobody prepared, a second node that
// scans the code, a conflict that arrives, is decided, and taken back; a row brought back; a device
// renamed and sent away. Once with the mouse, once with the keyboard alone.
//
//   STORYSYNC=target/debug/storysync node tests/page/story.mjs [--shots FOLDER]

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BINARY, browser, Desk, Person, SCHEMA, until } from "./helpers.mjs";

const shotsAt = process.argv.indexOf("--shots");
const shots = shotsAt > 0 ? process.argv[shotsAt + 1] : null;
if (shots) mkdirSync(shots, { recursive: true });

const LOOKS = [
  ["light", 1200], ["dark", 1200], ["light", 380], ["dark", 380],
];

/** Looks at a view as everybody may see it. */
async function view(person, name) {
  for (const [scheme, width] of LOOKS) {
    await person.page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    await person.page.setViewportSize({ width, height: 900 });
    await person.check(`${name}, ${scheme}, ${width}`);
    if (shots) {
      await person.page.screenshot({
        path: join(shots, `${name}-${scheme}-${width}.png`), fullPage: true,
      });
    }
  }
  await person.page.emulateMedia({ colorScheme: "light" });
  await person.page.setViewportSize({ width: 1200, height: 900 });
}

async function story(chromium, keyboardAlone) {
  const [desk, phone] = [new Desk("desk"), new Desk("phone")];
  const context = await chromium.newContext({ locale: "en-GB" });
  const person = new Person(await context.newPage(), keyboardAlone);
  const { page } = person;
  try {
    // A file of the app's that nobody prepared.
    desk.settings('host = "127.0.0.1"\nport = 0\nadmin_port = 0\ndiscovery = false\n' +
      'name = "Desk"\n');
    desk.sql(SCHEMA + `
      INSERT INTO faction (name) VALUES ('Harbour guild');
      INSERT INTO character (name, job, notes, age, faction_id) VALUES
        ('Mara Voss', 'smuggler', 'She came to the harbour as a child. ' ||
          'Nobody asked from where.', 34, 1),
        ('Tilo Brandt', 'clerk', 'Counts barrels.', 51, 1);`);
    const opened = desk.json("open", "--no-browser");
    await page.goto(opened.url);
    await person.see("Found the database");
    await view(person, "first-run");
    await person.press(person.button("Prepare it"));
    await person.see("No other device is paired yet.");
    assert.deepEqual(desk.sql("SELECT count(*) FROM character WHERE sync_uuid IS NULL"), [[0]]);
    await view(person, "alone");

    // A second node reads the code off the page.
    phone.sql(SCHEMA);
    let serving = await phone.serve("--name", "Phone");
    await person.press(person.link("Pair a device").first());
    await person.press(person.button("Show a code"));
    const picture = page.getByRole("img", { name: "The code as a picture" });
    await picture.waitFor();
    await view(person, "pair-code");
    const code = join(phone.folder, "code.png");
    writeFileSync(code, await picture.screenshot());
    const joining = phone.start("pair", "join", "--image", code);
    await person.see("Phone asks to be paired.");
    const digits = (await until(() => /^ {4}(\d{4})$/m.exec(joining.said), () => joining.said))[1];
    await view(person, "pair-asks");
    await person.type(page.getByLabel("The four digits it shows"), digits);
    await person.press(person.button("Let it in"));
    assert.equal(await joining.ended, 0, joining.said);
    await person.go("/");
    await person.see("All is well: every device is in step.");
    await until(() => phone.sql("SELECT count(*) FROM character")[0][0] === 2);
    await view(person, "home");

    // Both write the same field without having seen each other's: it arrives while one looks.
    await phone.stop(serving);
    phone.sql("UPDATE character SET job = 'harbour pilot', " +
      "notes = notes || ' The lamp knew.' WHERE name = 'Mara Voss'");
    desk.sql("UPDATE character SET job = 'fence' WHERE name = 'Mara Voss'");
    await person.see("can't be reached at the moment");
    await view(person, "away");
    serving = await phone.serve("--name", "Phone");
    await person.see("One thing waits for you.");
    await view(person, "home-waiting");
    await person.press(person.link(/Decide a conflict/));
    await view(person, "conflicts");
    await person.press(person.link("Mara Voss").first());
    await person.see("harbour pilot");
    await view(person, "conflict");
    await person.type(page.getByLabel("My own text for Job"), "pilot and fence");
    await person.press(person.button("Decide"));
    await person.see("No conflict waits for you.");
    await until(() => phone.json("conflicts").conflicts.length === 0);
    const job = (at) => at.sql("SELECT job FROM character WHERE name = 'Mara Voss'")[0][0];
    await until(() => job(phone) === "pilot and fence");
    assert.equal(job(desk), "pilot and fence");

    // What was decided is taken back.
    const before = await (async () => {
      await person.press(person.link("Conflicts that are over"));
      await person.see("decided");
      await view(person, "conflicts-ended");
      await person.press(person.button("Take the decision back"));
      await person.see("The decision was taken back");
      return job(desk);
    })();
    assert.notEqual(before, "pilot and fence");
    await until(() => job(phone) === before);

    // A row deleted on the phone is brought back here.
    phone.sql("DELETE FROM character WHERE name = 'Tilo Brandt'");
    await until(() => desk.sql("SELECT count(*) FROM character")[0][0] === 1);
    await person.go("/");
    await person.press(person.link("Recently deleted"));
    await person.see("Tilo Brandt");
    await view(person, "deleted");
    await person.press(person.button("Bring back"));
    await person.see("The change was taken back.");
    await until(() => phone.sql("SELECT count(*) FROM character")[0][0] === 2);
    await person.go("/");
    await person.press(person.link("Mara Voss").first());
    await person.see("What happened to it");
    await view(person, "row");

    // The node goes away and comes back, and so do two tabs that look at it.
    await person.go("/");
    const second = await context.newPage();
    await second.goto(new URL("/deleted", page.url()).href);
    const admin = JSON.parse(readFileSync(join(desk.data, "admin.json"), "utf8"));
    const port = new URL(admin.url).port;
    process.kill(admin.pid, "SIGTERM");
    await person.see("storysync is not running at the moment.");
    await second.getByText("storysync is not running at the moment.").waitFor();
    desk.settings(`host = "127.0.0.1"\nport = 0\nadmin_port = ${port}\ndiscovery = false\n` +
      'name = "Desk"\n');
    // The one that stops keeps the data directory until it has ended.
    await until(async () => {
      const child = desk.start("serve");
      const ready = until(() => child.said.includes("READY")).then(() => true, () => false);
      return Promise.race([child.ended.then(() => false), ready]);
    });
    for (const tab of [page, second]) {
      await tab.getByText("storysync is not running at the moment.").waitFor({ state: "hidden" });
    }
    await second.close();
    await person.see("All is well: every device is in step.");

    // Health looks by itself.
    await person.press(person.link("Health"));
    // The checks call the other device, too.
    await page.getByText(/Checked/).first().waitFor({ timeout: 60_000 });
    await view(person, "health");
    await person.press(person.button("Make a backup now"));
    await person.see("the copy checked");

    // This device gets another name; the other is sent away.
    await person.press(person.link("Settings"));
    await person.type(page.getByLabel("What this device is called"), "Writing desk");
    await person.press(person.button("Save").first());
    await person.see("it counts from now on");
    assert.equal(desk.json("status").name, "Writing desk");
    await view(person, "settings");
    await person.go("/");
    await person.press(person.link("Phone").first());
    await person.see("What it changed here");
    await view(person, "device");
    await person.type(page.getByLabel("What you call it"), "Pocket");
    await person.press(person.button("Call it so"));
    await person.see("It is called Pocket here now.");
    await person.press(person.button("Pause it"));
    await person.see("The device is paused");
    await person.press(person.button("Let it go on"));
    await person.see("The device goes on.");
    await person.press(person.button("Look at it first"));
    await person.see(/would change/);
    await view(person, "undo");
    await person.press(person.link("Cancel"));
    await person.press(person.link(/Send it away/));
    await view(person, "revoke");
    await person.press(person.button(/Send .*away/));
    await person.see("is no longer paired with this device.");
    await until(() => desk.json("devices").devices.every((device) => !device.is_active));

    assert.deepEqual([...person.requests], [new URL(page.url()).host], "nothing off this machine");
    assert.deepEqual(person.troubles, []);
  } catch (error) {
    const where = join(desk.folder, "failed.png");
    await page.screenshot({ path: where, fullPage: true }).catch(() => {});
    console.error(`at ${page.url()}, see ${where}`);
    for (const child of [...desk.children, ...phone.children]) console.error(child.said);
    throw error;
  } finally {
    await context.close();
    await desk.end();
    await phone.end();
  }
}

const chromium = await browser();
try {
  await story(chromium, false);
  console.log(`the story, with the mouse: ok (${BINARY})`);
  await story(chromium, true);
  console.log("the story, with the keyboard alone: ok");
} finally {
  await chromium.close();
}
