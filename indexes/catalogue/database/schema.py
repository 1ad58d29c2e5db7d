"""The catalogue's tables as SQLAlchemy classes; `migrations` creates them."""

from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, LargeBinary
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The base of the tables. SQLite's integers have up to 64 bits anyway."""

    type_annotation_map = {int: BigInteger().with_variant(Integer(), "sqlite")}  # noqa: RUF012


class Setting(Base):
    """A value of the store by name, such as the model's fingerprint or the generation."""

    __tablename__ = "settings"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Root(Base):
    """A gallery's folder: its absolute path as the file system's bytes.

    Triggers keep the numbers of its pictures, present and `missing`.
    """

    __tablename__ = "roots"

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    pictures: Mapped[int] = mapped_column(server_default="0")
    missing: Mapped[int] = mapped_column(server_default="0")


class Picture(Base):
    """An indexed file: `size` in bytes, `mtime` in nanoseconds; `missing` once a scan did not find it.

    `version` identifies contents on an object store or a web server, such as an ETag; local files have none.
    """

    __tablename__ = "pictures"
    __table_args__ = (
        Index("pictures_by_hash", "hash"),
        Index("pictures_by_label", "label", "missing"),
        Index("pictures_scan", "path", "size", "mtime", "version", "missing"),
        {"sqlite_autoincrement": True},  # an id in an older index never means another picture
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    root_id: Mapped[int] = mapped_column(ForeignKey("roots.id"))
    path: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    size: Mapped[int]
    mtime: Mapped[int]
    version: Mapped[str | None]
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    width: Mapped[int]
    height: Mapped[int]
    label: Mapped[str | None]
    taken_at: Mapped[str | None]
    latitude: Mapped[float | None] = mapped_column(Float)
    longitude: Mapped[float | None] = mapped_column(Float)
    missing: Mapped[bool] = mapped_column(default=False)


class Descriptor(Base):
    """A picture's descriptor under one model: C float16 numbers, little-endian."""

    __tablename__ = "descriptors"

    picture_id: Mapped[int] = mapped_column(ForeignKey("pictures.id", ondelete="CASCADE"), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class Change(Base):
    """A picture that an index must take anew or drop; triggers write it, at rising positions."""

    __tablename__ = "changes"
    __table_args__ = ({"sqlite_autoincrement": True},)

    position: Mapped[int] = mapped_column(primary_key=True)
    picture_id: Mapped[int]


class Generation(Base):
    """A generation of the catalogue, with the position of its last change."""

    __tablename__ = "generations"

    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]


class Archive(Base):
    """A tar that was read to its end, with its version then: while that is the same, it need not be read again."""

    __tablename__ = "archives"

    path: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    version: Mapped[str]


class Failure(Base):
    """A file that could not be indexed, and why."""

    __tablename__ = "failures"

    path: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    reason: Mapped[str]


class Migration(Base):
    """A migration that was applied to this database."""

    __tablename__ = "migrations"

    name: Mapped[str] = mapped_column(primary_key=True)
