"""docs/vectors.md: an app that queries through SQLAlchemy reads the active space."""

from __future__ import annotations

from pgvector.sqlalchemy import Vector
from sqlalchemy import BigInteger, Text, cast, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.migrations.test_backfill import backfill
from tests.vectors.postgres import App, text_of


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "documents"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    content: Mapped[str] = mapped_column(Text)


def test_sqlalchemy_reads_the_space_that_its_connection_names(app: App) -> None:
    app.upgrade()
    app.fill(20)
    backfill(app, index=True)
    for space, provider in (
        ("local_kosimcse_roberta_768", "local"),
        ("openai_text_embedding_3_small_512", "openai"),
    ):
        url = app.dsn.replace("postgresql://", "postgresql+psycopg://")
        engine = create_engine(f"{url}&options=-c%20sllm.space={space}")
        vector = app.embedders[provider].vector(text_of(7)).tolist()
        nearest = func.sllm.nearest(cast(vector, Vector()), 3).table_valued("id", "distance")
        query = (
            select(Document).join(nearest, nearest.c.id == Document.id).order_by(nearest.c.distance)
        )
        with Session(engine) as session:
            found = session.scalars(query).all()
        engine.dispose()
        assert found[0].content == text_of(7)
        assert len(found) == 3
