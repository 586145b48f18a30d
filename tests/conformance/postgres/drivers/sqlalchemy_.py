import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from scenario import said


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "sa_author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "sa_book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(sa.ForeignKey("sa_author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


for dialect in ("psycopg", "psycopg2"):
    engine = sa.create_engine(f"postgresql+{dialect}://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Author(name=f"author {n}", books=[Book(title=f"book {n}.{m}") for m in range(3)]) for n in range(4)])
        session.commit()
        said("join", session.execute(sa.select(Author.name, sa.func.count(Book.id)).join(Book).group_by(Author.name).order_by(Author.name)).all().__repr__())
        author = session.scalars(sa.select(Author).order_by(Author.id)).first()
        author.name = "renamed"
        session.delete(author.books[0])
        session.commit()
        said("changed", [(a.name, [b.title for b in a.books]) for a in session.scalars(sa.select(Author).order_by(Author.id))])
        session.execute(sa.update(Book).values(title=sa.func.upper(Book.title)))
        session.rollback()
    inspector = sa.inspect(engine)
    said("tables", sorted(inspector.get_table_names()))
    said("columns", [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns("person")])
    said("keys", [inspector.get_pk_constraint("person"), inspector.get_foreign_keys("task"), inspector.get_indexes("sa_book")])
    table = sa.Table("person", sa.MetaData(), autoload_with=engine)
    with engine.connect() as connection:
        said("reflected", [tuple(row) for row in connection.execute(sa.select(table.c.id, table.c.name).order_by(table.c.id))])
    Base.metadata.drop_all(engine)
    engine.dispose()
