"""Plays the command lines of README.md and docs/operations.md as a person would type them, in their
order, at a desktop and a phone with files of their own; the story in between (what the app writes)
is told here. Each must end with 0. Prints what failed and exits with 1.

    python3 tests/snippets.py target/debug/storysync
"""

import json
import os
import pathlib
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

BINARY = os.path.abspath(sys.argv[1])
# A placeholder without an entry in `known` below fails by its own name.
PLACEHOLDERS = {"QR TEXT", "ID", "TABLE", "ROW", "DEVICE"}


class Device:
    def __init__(self, root, name):
        self.name, self.data, self.db = name, root / name, root / f"{name}.db"
        self.data.mkdir(mode=0o700)
        (self.data / "config.toml").write_text('pairing_approval = "none"\n')

    def run(self, *words):
        command = [BINARY, *words, "--db", self.db, "--data-dir", self.data]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def start(self, *words):
        command = [BINARY, *words, "--db", self.db, "--data-dir", self.data]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def json(self, *words):
        done = self.run(*words, "--json")
        if done.returncode:
            sys.exit(f"storysync {shlex.join(words)} at the {self.name}: {done.stderr}")
        return json.loads(done.stdout)

    def app(self, sql):
        with sqlite3.connect(self.db, timeout=10) as app:
            app.executescript(sql)


def lines_of(paper):
    """The commands of a paper, each alternative of its own: `status | devices`."""
    for block in re.findall(r"```sh\n(.*?)```", pathlib.Path(paper).read_text(), re.S):
        for line in block.splitlines():
            if line.startswith("storysync "):
                for command in re.sub(r"\s+#.*", "", line)[len("storysync ") :].split(" | "):
                    yield command.strip()


def words_of(command, known):
    words = []
    for word in shlex.split(command.replace("[", "").replace("]", "")):
        word = word.split("|")[0]
        words.append(known[word] if word in PLACEHOLDERS else word)
    return words


def end_who_asks(device):
    """Ends the node that `open` started: it is nobody's child here."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        words = (process / "cmdline").read_bytes().split(b"\0") if process.exists() else []
        if b"--ask-first" in words and str(device.db).encode() in words:
            os.kill(int(process.name), signal.SIGTERM)


def play(root):
    desktop, phone = Device(root, "desktop"), Device(root, "phone")
    desktop.app("CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT, body TEXT);"
                "INSERT INTO note (title, body) VALUES ('Mara Voss', 'A captain.');")
    phone.app("CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT, body TEXT);")
    if phone.run("migrate").returncode:
        sys.exit("the phone's file can't be prepared")
    known, serving, played = {"TABLE": "note", "ROW": "Mara Voss"}, None, 0
    try:
        for command in [*lines_of("README.md"), *lines_of("docs/operations.md")]:
            if command == "serve":
                if serving is None:
                    ports = ["--host", "127.0.0.1", "--port", "0", "--admin-port", "0"]
                    serving = desktop.start("serve", *ports, "--no-discovery")
                    if not serving.stdout.readline().startswith("READY"):
                        sys.exit("storysync serve does not say READY")
                played += 1
                continue
            if command == "open":
                opened = desktop.json("open", "--no-browser")
                if not opened["url"].startswith("http://127.0.0.1:"):
                    sys.exit(f"storysync open: {opened}")
                # Before anything is prepared it waits on its page; a node it found goes on.
                if serving is None:
                    end_who_asks(desktop)
                played += 1
                continue
            if command == "pair show":
                # It waits until somebody has scanned the code: until `pair join`, below.
                showing = desktop.start("pair", "show")
                shown = next(line for line in showing.stdout if "pair join '" in line)
                known["QR TEXT"] = shown.split("'", 1)[1].rsplit("'", 1)[0]
                continue
            who = desktop
            if command.startswith("pair join"):
                who = phone
            elif command == "sync":
                who = phone
                time.sleep(0.1)
            elif command.startswith("conflicts resolve"):
                phone.json("sync")
                desktop.app("UPDATE note SET title = 'Captain Voss' WHERE id = 1")
                phone.app("UPDATE note SET title = 'Old Voss' WHERE id = 1")
                phone.json("sync")
                known["ID"] = desktop.json("conflicts")["conflicts"][0]["id"]
            elif command.startswith("history"):
                phone.json("sync")
                desktop.app("UPDATE note SET title = 'Mara Voss' WHERE id = 1")
            elif command.startswith("undo --device"):
                known["ID"] = "this"
            elif command.startswith("devices "):
                known["DEVICE"] = desktop.json("devices")["devices"][0]["device_name"]
            elif command == "uninstall":
                who = phone  # Nobody serves there.
            elif command.startswith("verify"):
                who, known["DEVICE"] = phone, phone.json("devices")["devices"][0]["device_name"]
                phone.json("sync")
            elif command.startswith("approve"):
                phone.app("WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n "
                          "WHERE i < 300) INSERT INTO note (title) SELECT 'note ' || i FROM n;")
                phone.json("sync")
                phone.app("DELETE FROM note WHERE title LIKE 'note %'")
                phone.json("sync")
                known["ID"] = desktop.json("status")["brakes"][0]["id"]
            done = who.run(*words_of(command, known))
            played += 1
            if command.startswith("pair join") and showing.wait(30):
                sys.exit("`storysync pair show` fails")
            if done.returncode:
                sys.exit(f"`storysync {command}` at the {who.name} ends with {done.returncode}: "
                         f"{done.stderr}{done.stdout}")
    finally:
        if serving:
            serving.terminate()
            serving.wait(30)
    print(f"{played} command lines of the papers were played")


with tempfile.TemporaryDirectory() as folder:
    play(pathlib.Path(folder))
