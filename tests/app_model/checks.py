"""What must be true after a script: the principles P1 to P4 of the project, read off both files.

Every text a person types carries a mark found nowhere else, so that it can be told where a text stands, who had read it when it was
replaced, and whether it vanished.
"""

import re
import sqlite3
from dataclasses import dataclass, field

from desk import Desk, Failed
from storymaster import BOOKKEEPING, MODELS

MARK = re.compile(r"\bq\d+[ab]r\d+\b")


def marks(text) -> set[str]:
    return set(MARK.findall(text)) if isinstance(text, str) else set()


def row_of(mark: str) -> str:
    return mark[mark.index("r"):]


@dataclass
class Typed:
    """One save in which a person typed into a field."""

    desk: str
    table: str
    column: str
    row: str
    text: str
    #: Marks the person had before their eyes in that field.
    read: set[str]
    step: int


@dataclass
class Record:
    """What people did in one script."""

    typed: list[Typed] = field(default_factory=list)
    #: (desk, row, marks the file showed in the row) of each deletion.
    deleted: list[tuple[str, str, set[str], int]] = field(default_factory=list)
    #: Marks that were in no file any more when a backup took a file's place.
    forgotten: set[str] = field(default_factory=set)
    #: Whether rows were thrown out and read in again: they are other rows then, and may be there twice.
    imported: bool = False
    restored: bool = False
    desks: set[str] = field(default_factory=set)


def shown(desk: Desk) -> dict[str, dict[str, dict]]:
    """What a file shows: by table and uuid, the columns, references by uuid."""
    connection = sqlite3.connect(desk.database, timeout=10)
    connection.row_factory = sqlite3.Row
    names = {model.__tablename__: dict(connection.execute(f'SELECT id, sync_uuid FROM "{model.__tablename__}"').fetchall()) for model in MODELS}
    found = {}
    for model in MODELS:
        table = model.__tablename__
        references = {column.key: next(iter(column.foreign_keys)).column.table.name for column in model.__table__.columns if column.foreign_keys}
        rows = {}
        for row in connection.execute(f'SELECT * FROM "{table}" WHERE deleted_at IS NULL'):
            values = {name: row[name] for name in row.keys() if name not in BOOKKEEPING | {"id"}}
            for column, target in references.items():
                values[column] = names[target].get(values[column])
            rows[row["sync_uuid"]] = values
        found[table] = rows
    connection.close()
    return found


def at_rest(one: Desk, other: Desk):
    """Both files show the same."""
    a, b = shown(one), shown(other)
    if a != b:
        differing = [(table, uuid, a[table].get(uuid), b[table].get(uuid)) for table in a for uuid in {*a[table], *b[table]} if a[table].get(uuid) != b[table].get(uuid)]
        raise Failed(f"the desks show different rows at rest: {differing[:3]}")


def whole(desk: Desk):
    """P4: the file is sound."""
    if desk.read("PRAGMA integrity_check") != [("ok",)]:
        raise Failed(f"{desk.name}: the file is damaged")
    if desk.read("PRAGMA foreign_key_check"):
        # The app leaves children behind when it deletes a parent; those lead nowhere and are no harm of ours.
        dangling = [row for row in desk.read("PRAGMA foreign_key_check") if row[0] == "storyline_to_setting"]
        if dangling:
            raise Failed(f"{desk.name}: references lead nowhere: {dangling}")


def unmixed(desk: Desk):
    """P2: no row carries texts of two."""
    for table, rows in shown(desk).items():
        for uuid, values in rows.items():
            owners = {row_of(mark) for value in values.values() for mark in marks(value)}
            if len(owners) > 1:
                raise Failed(f"{desk.name}: {table}/{uuid} mixes texts of {owners}: {values}")


def without_cause(desk: Desk, record: Record):
    """No conflict without two people."""
    for conflict in desk.json("conflicts")["conflicts"]:
        conflicting = {mark for one in conflict["fields"] for value in one["values"] for mark in marks(value["value"])}
        rows = {row_of(mark) for mark in conflicting}
        if conflict["kind"] == "field" and conflicting and rows & {typed.row for typed in record.typed}:
            for one in conflict["fields"]:
                devices = {value["device"] for value in one["values"]}
                if len(devices) < 2 and not record.restored:
                    raise Failed(f"{desk.name}: a conflict with oneself: {one}")
            # A file put back has forgotten what it had told: its own words come back to it from elsewhere.
            if len(record.desks) < 2 and not record.restored:
                raise Failed(f"{desk.name}: a conflict though only one person wrote: {conflict}")


def told(desk: Desk) -> set[str]:
    """The marks a desk tells of as conflicting, or as having given way."""
    report = desk.json("conflicts")
    conflicting = {mark for conflict in report["conflicts"] for one in conflict["fields"] for value in one["values"] for mark in marks(value["value"])}
    return conflicting | {mark for notice in report.get("notices", []) for mark in marks(notice["value"])}


def own_words_stand(desk: Desk, record: Record):
    """P1: what only one person wrote stands exactly as that person wrote it last."""
    if record.restored or record.imported:
        return
    gone = {row for _, row, _, _ in record.deleted}
    last: dict[tuple[str, str, str], Typed] = {}
    writers: dict[tuple[str, str, str], set[str]] = {}
    for typed in record.typed:
        where = (typed.table, typed.row, typed.column)
        last[where] = typed
        writers.setdefault(where, set()).add(typed.desk)
    file = shown(desk)
    for (table, row, column), typed in last.items():
        if len(writers[table, row, column]) > 1 or row in gone:
            continue
        found = [values for values in file[table].values() if row in {row_of(mark) for value in values.values() for mark in marks(value)}]
        # Another desk's page may have written back what it had read before: then it is told.
        is_told = bool(marks(typed.text)) and marks(typed.text) <= told(desk)
        if found and not is_told and not any((values[column] or "") == typed.text for values in found):
            raise Failed(f"{desk.name}: {typed.desk} alone wrote {table}.{column} of {row}, at last {typed.text!r}, and it shows {[values[column] for values in found]}")


def nothing_vanished(desks: list[Desk], record: Record):
    """P1 and P3: what was typed is shown, was replaced by somebody who had read it, or is told."""
    files = [shown(desk) for desk in desks]
    telling = {mark for desk in desks for mark in told(desk)}
    standing = [{mark for rows in file.values() for values in rows.values() for value in values.values() for mark in marks(value)} for file in files]
    for typed in record.typed:
        for mark in marks(typed.text) - typed.read:
            if mark in record.forgotten or mark in telling or all(mark in file for file in standing):
                continue
            if any(is_replaced(typed, mark, later) for later in record.typed):
                continue
            if any(row == typed.row and (mark in seen or desk == typed.desk) and step > typed.step for desk, row, seen, step in record.deleted):
                continue
            where = [desk.name for desk, file in zip(desks, standing) if mark in file]
            raise Failed(f"{mark} ({typed.desk} typed {typed.text!r} into {typed.table}.{typed.column} in step {typed.step}) vanished untold; it is shown on {where}")


def is_replaced(typed: Typed, mark: str, later: Typed) -> bool:
    """Whether a save replaced a text its author had read, or had typed at the same desk."""
    same_field = (later.row, later.table, later.column) == (typed.row, typed.table, typed.column)
    if not same_field or mark in marks(later.text):
        return False
    return mark in later.read or (later.desk == typed.desk and later.step > typed.step)
