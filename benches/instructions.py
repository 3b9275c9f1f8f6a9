"""Instructions the processor carries out for migrating, pushing and taking in 1,000 rows, counted by
valgrind: two runs differ by less than a percent where times differ by a fifth (but for start and
stop, which depends on how far a node gets before it is stopped).

    python3 benches/instructions.py target/release/storysync    # some two minutes; needs valgrind
"""

import json
import os
import pathlib
import re
import sqlite3
import subprocess
import sys
import tempfile

BINARY = os.path.abspath(sys.argv[1])
ROWS = 1_000
COLUMNS = [f"c{number}" for number in range(18)] + ["note"]


class Device:
    def __init__(self, root, name):
        self.data, self.database = root / name, root / f"{name}.db"
        self.data.mkdir(mode=0o700)
        self.configure()
        self.app(f"CREATE TABLE thing (id INTEGER PRIMARY KEY, {' TEXT, '.join(COLUMNS)} TEXT)")

    def configure(self, *peers):
        config = f'pairing_approval = "none"\npeers = {json.dumps(peers)}\n'
        (self.data / "config.toml").write_text(config)

    def app(self, sql):
        app = sqlite3.connect(self.database, timeout=30)
        app.executescript(sql)
        app.close()

    def command(self, words, counted):
        counting = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        command = [BINARY, *words, "--db", self.database, "--data-dir", self.data]
        return counting + command if counted else command

    def run(self, *words, counted=False):
        done = subprocess.run(self.command(words, counted), capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"storysync {words}: {done.stdout}{done.stderr}")
        return instructions(done.stderr) if counted else done.stdout

    def start(self, *words, counted=False):
        command = self.command(words, counted)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def serve(self, counted=False):
        ports = ["--host", "127.0.0.1", "--port", "0", "--admin-port", "0"]
        node = self.start("serve", *ports, "--no-discovery", "--no-live", counted=counted)
        if not node.stdout.readline().startswith("READY"):
            sys.exit(f"storysync serve: {node.stderr.read()}")
        return node


def instructions(text):
    return int(re.search(r"Collected : (\d+)", text).group(1))


def stop(node):
    node.terminate()
    return node.communicate()[1]


def rows():
    values = ", ".join(["'value ' || i"] * 18 + ["replace(hex(zeroblob(250)), '00', 'ab')"])
    return (f"WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) "
            f"INSERT INTO thing ({', '.join(COLUMNS)}) SELECT {values} FROM n")


def say(what, count):
    print(f"{count / 1e6:10.1f}  {what}, million instructions")


def measure(root):
    desktop, phone = Device(root, "desktop"), Device(root, "phone")
    desktop.app(rows())
    say(f"migrate {ROWS} rows", desktop.run("migrate", counted=True))
    phone.run("migrate")
    node = desktop.serve()
    showing = desktop.start("pair", "show")
    shown = next(line for line in showing.stdout if "pair join '" in line)
    phone.run("pair", "join", shown.split("'", 1)[1].rsplit("'", 1)[0])
    showing.communicate()
    phone.run("sync")
    stop(node)
    idle = instructions(stop(desktop.serve(counted=True)))
    say("start and stop a node", idle)
    for what, sql in [("updates", "UPDATE thing SET c3 = 'other ' || id"), ("creates", rows())]:
        phone.app(sql)
        node = desktop.serve(counted=True)
        port = json.loads((desktop.data / "admin.json").read_text())["lan_port"]
        phone.configure(f"127.0.0.1:{port}")
        say(f"capture and push {ROWS} {what}", phone.run("sync", counted=True))
        say(f"take in {ROWS} {what}", instructions(stop(node)) - idle)


with tempfile.TemporaryDirectory() as folder:
    measure(pathlib.Path(folder))
