"""The tables of the desktop app that its pages work on, as its own SQLAlchemy models declare them.

Owns the schema and how a file is opened. Knows nothing of storysync beyond the columns the app's models carry themselves.
"""

import datetime
import uuid

from sqlalchemy import Boolean, DateTime, Float, ForeignKey, Integer, String, Text, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)


class Base(DeclarativeBase):
    """Every table has the columns the app's own synchronisation added to it."""

    id: Mapped[int] = mapped_column(Integer, primary_key=True, sort_order=-1)


class Synced:
    sync_uuid: Mapped[str | None] = mapped_column(String(36), default=lambda: str(uuid.uuid4()), sort_order=90)
    created_at: Mapped[datetime.datetime | None] = mapped_column(DateTime, default=utc_now, sort_order=91)
    updated_at: Mapped[datetime.datetime | None] = mapped_column(DateTime, default=utc_now, onupdate=utc_now, sort_order=92)
    deleted_at: Mapped[datetime.datetime | None] = mapped_column(DateTime, sort_order=93)
    version: Mapped[int] = mapped_column(Integer, default=1, sort_order=94)


class User(Synced, Base):
    __tablename__ = "user"
    username: Mapped[str] = mapped_column(String(150))


class Setting(Synced, Base):
    __tablename__ = "setting"
    name: Mapped[str | None] = mapped_column(String(120))
    description: Mapped[str | None] = mapped_column(Text)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))


class Storyline(Synced, Base):
    __tablename__ = "storyline"
    name: Mapped[str | None] = mapped_column(String(120))
    description: Mapped[str | None] = mapped_column(Text)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))


class StorylineToSetting(Synced, Base):
    __tablename__ = "storyline_to_setting"
    storyline_id: Mapped[int] = mapped_column(ForeignKey("storyline.id"))
    setting_id: Mapped[int] = mapped_column(ForeignKey("setting.id"))


class Actor(Synced, Base):
    __tablename__ = "actor"
    first_name: Mapped[str | None] = mapped_column(Text)
    middle_name: Mapped[str | None] = mapped_column(Text)
    last_name: Mapped[str | None] = mapped_column(Text)
    title: Mapped[str | None] = mapped_column(Text)
    actor_age: Mapped[int | None] = mapped_column(Integer)
    job: Mapped[str | None] = mapped_column(Text)
    actor_role: Mapped[str | None] = mapped_column(Text)
    ideal: Mapped[str | None] = mapped_column(Text)
    bond: Mapped[str | None] = mapped_column(Text)
    flaw: Mapped[str | None] = mapped_column(Text)
    appearance: Mapped[str | None] = mapped_column(Text)
    strengths: Mapped[str | None] = mapped_column(Text)
    weaknesses: Mapped[str | None] = mapped_column(Text)
    notes: Mapped[str | None] = mapped_column(Text)
    setting_id: Mapped[int] = mapped_column(ForeignKey("setting.id"))


class ActorRelation(Synced, Base):
    __tablename__ = "actor_a_on_b_relations"
    actor_a_id: Mapped[int | None] = mapped_column(ForeignKey("actor.id"))
    actor_b_id: Mapped[int | None] = mapped_column(ForeignKey("actor.id"))
    overall: Mapped[str | None] = mapped_column(String)
    description: Mapped[str | None] = mapped_column(Text)
    strength: Mapped[int | None] = mapped_column(Integer)
    is_mutual: Mapped[bool | None] = mapped_column(Boolean)
    setting_id: Mapped[int] = mapped_column(ForeignKey("setting.id"))


class Scene(Synced, Base):
    __tablename__ = "litography_node"
    name: Mapped[str] = mapped_column(String(250))
    description: Mapped[str | None] = mapped_column(Text)
    node_type: Mapped[str] = mapped_column(String(11), default="OTHER")
    x_position: Mapped[float] = mapped_column(Float, default=0.0)
    y_position: Mapped[float] = mapped_column(Float, default=0.0)
    storyline_id: Mapped[int] = mapped_column(ForeignKey("storyline.id"))


class Note(Synced, Base):
    __tablename__ = "litography_notes"
    title: Mapped[str] = mapped_column(String(250))
    description: Mapped[str | None] = mapped_column(Text)
    note_type: Mapped[str] = mapped_column(String(5), default="OTHER")
    linked_node: Mapped[int] = mapped_column(ForeignKey("litography_node.id"))
    storyline_id: Mapped[int] = mapped_column(ForeignKey("storyline.id"))


class NoteToActor(Synced, Base):
    __tablename__ = "litography_note_to_actor"
    note_id: Mapped[int] = mapped_column(ForeignKey("litography_notes.id"))
    actor_id: Mapped[int] = mapped_column(ForeignKey("actor.id"))


#: Tables in an order in which rows can be inserted.
MODELS = [User, Setting, Storyline, StorylineToSetting, Actor, ActorRelation, Scene, Note, NoteToActor]
#: What the app's models carry for synchronisation; an export of a story leaves it out.
BOOKKEEPING = {"sync_uuid", "created_at", "updated_at", "deleted_at", "version"}


class Story:
    """One file, opened as the app opens it: rollback journal, five seconds of patience, foreign keys not enforced."""

    def __init__(self, path):
        self.path = path
        self.engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 5})

        @event.listens_for(self.engine, "connect")
        def _(connection, _record):
            connection.execute("PRAGMA foreign_keys = OFF")

    def create(self):
        """A new file with one storyline in one setting."""
        Base.metadata.create_all(self.engine)
        with self.session() as session:
            session.add(User(id=1, username="writer"))
            session.add(Setting(id=1, name="Harbour world", user_id=1))
            session.add(Storyline(id=1, name="The bell", user_id=1))
            session.add(StorylineToSetting(id=1, storyline_id=1, setting_id=1))
            session.commit()

    def session(self) -> Session:
        """A session as the app's pages open them: objects keep what they read after the commit."""
        return Session(self.engine, expire_on_commit=False)

    def close(self):
        self.engine.dispose()
