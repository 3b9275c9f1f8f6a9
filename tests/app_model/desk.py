"""A desk: the app's file, the storysync node beside it, and the person who types there.

Owns processes and files. Refuses to judge: what came of it is `checks`.
"""

import json
import os
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from pathlib import Path

from storymaster import Story

#: How long a node may take to start, in seconds.
START_SECONDS_MAX = 60
#: How long one command may take, in seconds.
COMMAND_SECONDS_MAX = 120


class Failed(Exception):
    """Something that must not happen."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Desk:
    def __init__(self, binary: Path, folder: Path, name: str):
        self.binary, self.name, self.folder = binary, name, folder / name
        self.folder.mkdir()
        self.database, self.data = self.folder / "storymaster.db", self.folder / "data"
        self.port, self.admin = free_port(), free_port()
        self.serving: subprocess.Popen[str] | None = None
        self.story = Story(self.database)

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [self.binary, *words, "--db", self.database, "--data-dir", self.data],
            capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX,
        )
        if check and done.returncode:
            raise Failed(f"{self.name}: storysync {' '.join(words)} -> {done.returncode}: {done.stderr[-600:]}")
        return done

    def json(self, *words: str):
        return json.loads(self.command(*words, "--json").stdout)

    def serve(self):
        if self.serving:
            return
        log = open(self.folder / "serve.log", "a")
        self.serving = subprocess.Popen(
            [self.binary, "serve", "--db", self.database, "--data-dir", self.data, "--host", "127.0.0.1", "--port", str(self.port),
             "--admin-port", str(self.admin), "--no-discovery", "--pairing-approval", "none"],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )
        until = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < until and self.serving.poll() is None:
            if select.select([self.serving.stdout], [], [], 0.2)[0] and "READY" in self.serving.stdout.readline():
                return
        raise Failed(f"{self.name}: the node does not start: {(self.folder / 'serve.log').read_text()[-600:]}")

    def stop(self):
        if self.serving:
            self.serving.send_signal(signal.SIGTERM)
            try:
                self.serving.wait(20)
            except subprocess.TimeoutExpired:
                self.serving.kill()
                self.serving.wait()
                raise Failed(f"{self.name}: the node does not stop") from None
            self.serving = None

    def close(self):
        if self.serving:
            self.serving.kill()
            self.serving.wait()
        self.story.close()

    def read(self, sql: str, *values):
        """What the file shows, by a connection of its own."""
        connection = sqlite3.connect(self.database, timeout=10)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def backup(self) -> Path:
        """The app's backup: a copy of the file, made when nobody writes."""
        copy = self.folder / "backup.db"
        source = sqlite3.connect(self.database, timeout=10)
        with sqlite3.connect(copy) as target:
            source.backup(target)
        source.close()
        target.close()
        return copy

    def restore(self, copy: Path):
        """The app's restore: the file is replaced by the backup, whether or not a node runs beside it."""
        self.story.close()
        fresh = self.folder / "restoring.db"
        shutil.copy(copy, fresh)
        for rest in ("-journal", "-wal", "-shm"):
            Path(str(self.database) + rest).unlink(missing_ok=True)
        os.replace(fresh, self.database)
        self.story = Story(self.database)


def pair(shown: Desk, joining: Desk):
    qr = shown.json("pair", "show")["qr"]
    joining.command("pair", "join", qr)
