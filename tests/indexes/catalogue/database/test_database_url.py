"""The addresses of catalogues: parsed, stored without their passwords, and compared with the stored one."""

import re
from pathlib import Path

import pytest

from indexes.catalogue.database.database_url import (
    CONFIG_FILE,
    URL_VARIABLE,
    parse_url,
    read_url,
    reconcile_url,
    write_url,
)
from indexes.catalogue.open_database import is_store, open_database
from indexes.errors import StoreError

ADDRESS = "postgresql://ada:p%40ss@db.example:5433/pictures?sslmode=require&schema=cats"


def test_an_address_is_shown_without_its_password() -> None:
    place = parse_url(ADDRESS)
    assert str(place) == "postgresql://ada@db.example:5433/pictures?sslmode=require&schema=cats"
    assert (place.url.password, place.schema) == ("p@ss", "cats")
    assert str(parse_url(str(place))) == str(place)
    assert str(parse_url("postgresql:///pictures?password=p&host=/run")) == "postgresql:///pictures?host=%2Frun"
    assert str(parse_url("postgresql://db/pictures?sslpassword=p&sslmode=require")).endswith("pictures?sslmode=require")


@pytest.mark.parametrize("driver", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql_has_several_names(driver: str) -> None:
    assert str(parse_url(f"{driver}://ada@db/pictures")) == "postgresql://ada@db/pictures"
    assert parse_url(f"{driver}://db/pictures").schema == "public"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("secret", "the catalogue's address cannot be read: write it as postgresql://user@host/database"),
        ("postgresql://u:secret@host:port/db", "the catalogue's address cannot be read: write it as "),
        ("mysql://u:secret@host/db", "the catalogue's address is of mysql, but a catalogue is on PostgreSQL: "),
        (f"postgresql://u:secret@host/db?schema={'a' * 64}", "the catalogue's address names a schema of more than 63 "),
        ("postgresql://u:secret@host/db?schema=a&schema=b", "the catalogue's address names two schemas: name one"),
    ],
)
def test_a_malformed_address_is_refused_and_not_shown(address: str, said: str) -> None:
    with pytest.raises(StoreError) as raised:
        parse_url(address)
    assert str(raised.value).startswith(said)
    assert "secret" not in str(raised.value)


def test_an_address_is_written_without_its_password_above_other_settings(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text("[other]\nkey = 1\n")
    write_url(tmp_path, parse_url(ADDRESS))
    assert (tmp_path / CONFIG_FILE).read_text() == (
        'catalogue = "postgresql://ada@db.example:5433/pictures?sslmode=require"\nschema = "cats"\n[other]\nkey = 1\n'
    )
    assert [file.name for file in tmp_path.iterdir()] == [CONFIG_FILE]
    kept = read_url(tmp_path)
    assert kept is not None
    assert (str(kept), kept.url.password) == (str(parse_url(ADDRESS)), None)


def test_an_address_is_written_once(tmp_path: Path) -> None:
    write_url(tmp_path, parse_url(ADDRESS))
    before = (tmp_path / CONFIG_FILE).read_text()
    write_url(tmp_path, parse_url(ADDRESS))
    assert (tmp_path / CONFIG_FILE).read_text() == before
    with pytest.raises(StoreError, match="has its catalogue at"):
        write_url(tmp_path, parse_url("postgresql://elsewhere/pictures"))
    assert (tmp_path / CONFIG_FILE).read_text() == before


def test_a_folder_without_an_address_is_not_a_store(tmp_path: Path) -> None:
    assert read_url(tmp_path) is None
    (tmp_path / CONFIG_FILE).write_text("[other]\nkey = 1\n")
    assert read_url(tmp_path) is None
    assert not is_store(tmp_path)
    write_url(tmp_path, parse_url(ADDRESS))
    assert is_store(tmp_path)


@pytest.mark.parametrize("text", ["catalogue =", "catalogue = 5", 'catalogue = "x"', 'catalogue = ""\nschema = 1'])
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / CONFIG_FILE).write_text(text)
    with pytest.raises(StoreError, match=re.escape(str(tmp_path / CONFIG_FILE))):
        read_url(tmp_path)


def test_the_environment_supplies_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_url(tmp_path, parse_url(ADDRESS))
    monkeypatch.setenv(URL_VARIABLE, "postgres://ada:word@db.example:5433/pictures?sslmode=require")
    kept = read_url(tmp_path)
    assert kept is not None
    assert (kept.url.password, kept.schema) == ("word", "cats")
    monkeypatch.setenv(URL_VARIABLE, "postgresql://ada:word@elsewhere/pictures")
    with pytest.raises(StoreError) as raised:
        read_url(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path / CONFIG_FILE} has {parse_url(ADDRESS)}, and RETRIEVE_CATALOGUE another address: leave that out, or"
        " choose another store with --store"
    )


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ("postgresql://ada@db/pictures", True),
        ("postgresql+psycopg://ada:word@db:5432/pictures?schema=cats", True),
        ("postgresql://ada@db/pictures?schema=dogs", False),
        ("postgresql://ada@db/others", False),
        ("postgresql://bob@db/pictures", False),
        ("postgresql://ada@db:5433/pictures", False),
    ],
)
def test_another_address_than_the_stored_one_is_refused(tmp_path: Path, given: str, same: bool) -> None:
    kept = parse_url("postgresql://ada@db/pictures?schema=cats")
    if same:
        assert reconcile_url(tmp_path, kept, given).schema == "cats"
        return
    with pytest.raises(StoreError, match=f"^{tmp_path} has its catalogue at postgresql://ada@db/pictures"):
        reconcile_url(tmp_path, kept, given)


def test_a_store_with_a_catalogue_of_its_own_accepts_no_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_database(tmp_path, create=True).close()
    with pytest.raises(StoreError) as raised:
        open_database(tmp_path, create=True, address=ADDRESS)
    assert str(raised.value) == (
        f"{tmp_path} has its catalogue in catalogue.sqlite: leave out --catalogue, or choose another store with --store"
    )
    monkeypatch.setenv(URL_VARIABLE, ADDRESS)  # not for this one
    assert open_database(tmp_path).address is None
