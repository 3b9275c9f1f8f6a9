"""Writes a row as the app does, so that there is one to ask about."""

import sqlite3
import sys

ROW = "5f1d7a52-9d2c-4a0e-8a4e-0f6a2f3f8c11"

with sqlite3.connect(sys.argv[1]) as app:
    app.execute(
        "INSERT INTO user (username, sync_uuid, version) VALUES ('Mara', ?, 1)", (ROW,)
    )
