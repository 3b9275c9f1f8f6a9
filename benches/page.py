#!/usr/bin/env python3
"""How long the views of the page take on the server: a file of 20,000 rows with 500 open conflicts.

    python3 benches/page.py target/release/storysync

Makes two desks in a temporary folder, lets them write 500 rows apart, and asks for each view
twenty times. Prints the median and the longest, in milliseconds, and the size in bytes.
"""

import http.client
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROWS = 20_000
CONFLICTS = 500
ASKED = 20
SCHEMA = """
CREATE TABLE character (id INTEGER PRIMARY KEY, name VARCHAR(120), job VARCHAR(120), notes TEXT);
"""


class Desk:
    def __init__(self, binary, folder, name):
        self.binary, self.name = binary, name
        self.database = os.path.join(folder, f"{name}.db")
        self.data = os.path.join(folder, f"{name}-data")
        self.child = None

    def words(self, *words):
        return [self.binary, *words, "--db", self.database, "--data-dir", self.data]

    def json(self, *words):
        run = subprocess.run(self.words(*words, "--json"), capture_output=True, text=True)
        if not run.stdout:
            raise SystemExit(f"{words}: {run.stderr}")
        return json.loads(run.stdout)

    def serve(self):
        self.child = subprocess.Popen(
            self.words("serve", "--host", "127.0.0.1", "--port", "0", "--admin-port", "0",
                       "--no-discovery", "--no-live", "--pairing-approval", "none"),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if not self.child.stdout.readline().startswith("READY"):
            raise SystemExit("the node did not start")

    def stop(self):
        self.child.terminate()
        self.child.wait()

    def sql(self, statements):
        connection = sqlite3.connect(self.database, timeout=60)
        connection.executescript(f"BEGIN; {statements}; COMMIT;")
        connection.close()


def view(address, target, cookie):
    connection = http.client.HTTPConnection(address)
    begun = time.perf_counter()
    connection.request("GET", target, headers={"Accept": "text/html", "Cookie": cookie})
    answer = connection.getresponse()
    body = answer.read()
    took = (time.perf_counter() - begun) * 1000
    if answer.status != 200:
        raise SystemExit(f"{target}: {answer.status}")
    return took, body.decode()


def main():
    binary = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        desk, phone = Desk(binary, folder, "desk"), Desk(binary, folder, "phone")
        for side in (desk, phone):
            side.sql(SCHEMA)
        desk.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < "
            f"{ROWS}) INSERT INTO character (name, job, notes) SELECT 'Character ' || i, 'sailor', "
            "'She came to the harbour as a child, and nobody asked from where. ' || i FROM n")
        desk.serve()
        phone.json("pair", "join", desk.json("pair", "show")["qr"])
        phone.json("sync")
        phone.sql(f"UPDATE character SET job = 'pilot ' || id WHERE id <= {CONFLICTS}")
        desk.sql(f"UPDATE character SET job = 'fence ' || id WHERE id <= {CONFLICTS}")
        phone.json("sync")
        desk.sql("DELETE FROM character WHERE id > 19000")
        found = desk.json("conflicts")["conflicts"]
        if len(found) != CONFLICTS:
            raise SystemExit(f"{len(found)} conflicts")
        url = urllib.parse.urlparse(desk.json("open", "--no-browser")["url"])
        connection = http.client.HTTPConnection(url.netloc)
        connection.request("GET", f"/?{url.query}")
        cookie = connection.getresponse().getheader("Set-Cookie").split(";")[0]
        one = found[0]
        views = ["/", "/pair", "/conflicts", "/conflicts?page=9", f"/conflict/{one['id']}",
                 "/conflicts/ended", f"/row/character/{one['sync_uuid']}", "/deleted",
                 "/deleted?page=15", f"/device/{phone.json('status')['device_id']}", "/health",
                 "/settings", "/embed/status"]
        print(f"{'view':24} {'median ms':>10} {'longest ms':>11} {'bytes':>8}")
        for target in views:
            looks = [view(url.netloc, target, cookie) for _ in range(ASKED)]
            times = [took for took, _ in looks]
            name = target if len(target) <= 24 else target[:23] + "…"
            print(f"{name:24} {statistics.median(times):10.1f} {max(times):11.1f} "
                  f"{len(looks[0][1]):8}")
        desk.stop()


if __name__ == "__main__":
    main()
