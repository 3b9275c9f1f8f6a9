#!/usr/bin/env python3
"""How a desktop app shows storysync in a panel of its own: starts the node with itself, follows how
it stands, and opens the page where there is something to do.

    python3 examples/panel.py target/release/storysync story.db data [--once]

The node ends when this process does (`--exit-with-parent`: its standard input closes). Where the
app has a web view, `link("/embed/status")` is what to load in it.
"""

import http.client
import json
import pathlib
import subprocess
import sys
import urllib.parse


class Panel:
    def __init__(self, program, database, data):
        self.data = pathlib.Path(data)
        self.node = subprocess.Popen(
            [program, "serve", "--exit-with-parent", "--db", database, "--data-dir", data],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.node.stdout.readline()
        if not line.startswith("READY "):
            raise RuntimeError("the node did not start; its log says why")
        # Readable by this user only; holds the token of this run.
        admin = json.loads((self.data / "admin.json").read_text())
        self.address = urllib.parse.urlparse(admin["url"]).netloc
        self.headers = {"Authorization": f"Bearer {admin['token']}"}

    def ask(self, method, path):
        connection = http.client.HTTPConnection(self.address)
        connection.request(method, path, headers=self.headers)
        return connection.getresponse()

    def link(self, view="/"):
        """An address that opens a view of the page once, within five minutes."""
        path = json.load(self.ask("POST", "/api/page/link"))["path"]
        return f"http://{self.address}{path}&next={view}"

    def code(self):
        """The pairing code as a PNG, for the app's own button."""
        return self.ask("GET", "/api/pair/qr-image").read()

    def follow(self):
        """How the node stands: at once, and whenever that changes."""
        for line in self.ask("GET", "/api/events"):
            if line.startswith(b"data: "):
                yield json.loads(line[6:])

    def close(self):
        self.node.stdin.close()
        self.node.wait(timeout=5)


def main():
    program, database, data = sys.argv[1:4]
    panel = Panel(program, database, data)
    try:
        print(len(panel.code()), "bytes of a picture to scan")
        for status in panel.follow():
            devices = ", ".join(f"{one['device_name']}: {one['state']}" for one in status["devices"])
            print(f"{status['overall']}; {status['conflicts']} conflicts; {devices or 'no devices'}")
            if "--once" in sys.argv:
                print("the panel:", urllib.parse.urlparse(panel.link("/embed/status")).path)
                break
    finally:
        panel.close()


if __name__ == "__main__":
    main()
