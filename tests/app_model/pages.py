"""The app's pages as far as their habits of reading and writing matter.

A page reads when it is opened, holds what it read, and writes in its own way. Owns those ways; refuses to know of other desks.
"""

from dataclasses import dataclass, field
from typing import Any

from storymaster import BOOKKEEPING, MODELS, Actor, Base, Note, Scene, Story


@dataclass
class Page:
    """What every page has: the row it shows and the texts its fields show."""

    story: Story
    row_id: int
    model: type = Actor
    held: dict[str, Any] = field(default_factory=dict)

    def texts(self) -> dict[str, str]:
        return {name: value or "" for name, value in self.held.items() if isinstance(value, str) or value is None}


class CharacterPage(Page):
    """Keeps one detached object from opening to closing and merges the whole of it at every autosave."""

    fields = ["first_name", "title", "job", "ideal", "bond", "flaw", "appearance", "notes"]

    def open(self) -> bool:
        with self.story.session() as session:
            self.object = session.get(Actor, self.row_id)
            if self.object is None:
                return False
            session.expunge(self.object)
        self.held = {name: getattr(self.object, name) for name in self.fields}
        return True

    def save(self, typed: dict[str, Any]) -> bool:
        self.held.update(typed)
        with self.story.session() as session:
            # A form shows '' where the row has NULL, and writes it back.
            for name, value in self.held.items():
                setattr(self.object, name, value if value is not None else "")
            if session.get(Actor, self.row_id) is None:
                return False
            session.merge(self.object)
            session.commit()
        return True


class ScenePanel(Page):
    """Re-reads the row at every save and sets each field the panel holds; writes no version."""

    model = Scene
    fields = ["name", "description", "x_position", "y_position"]

    def open(self) -> bool:
        with self.story.session() as session:
            row = session.get(self.model, self.row_id)
            if row is None:
                return False
            self.held = {name: getattr(row, name) for name in self.fields}
        return True

    def save(self, typed: dict[str, Any]) -> bool:
        self.held.update(typed)
        with self.story.session() as session:
            row = session.get(self.model, self.row_id)
            if row is None:
                return False
            for name, value in self.held.items():
                setattr(row, name, value)
            session.commit()
        return True


class NoteDialog(ScenePanel):
    """Opened, edited, and written once on OK in the way of a panel."""

    model = Note
    fields = ["title", "description"]


def export(story: Story) -> dict[str, list[dict[str, Any]]]:
    """A story as the app's export has it: every row by its id, nothing of synchronisation."""
    with story.session() as session:
        return {
            model.__tablename__: [
                {column.key: getattr(row, column.key) for column in model.__table__.columns if column.key not in BOOKKEEPING}
                for row in session.query(model).order_by(model.id)
            ]
            for model in MODELS
        }


def import_story(story: Story, exported: dict[str, list[dict[str, Any]]], drop: bool):
    """The app's import: everything out, by DELETE or by dropping the tables, and everything in again."""
    if drop:
        tables = [model.__table__ for model in MODELS]
        Base.metadata.drop_all(story.engine, tables=tables)
        Base.metadata.create_all(story.engine, tables=tables)
    with story.session() as session:
        if not drop:
            for model in reversed(MODELS):
                session.query(model).delete()
        for model in MODELS:
            session.add_all(model(**values) for values in exported[model.__tablename__])
            session.flush()
        session.commit()
