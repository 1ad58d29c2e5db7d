"""Where an index may be, as people write it."""

import pytest

from indexes.vectors.index_address import MilvusAddress, parse_address


@pytest.mark.parametrize(
    ("written", "uri", "file", "name"),
    [
        ("milvus://localhost:19530/photos", "http://localhost:19530", None, "photos"),
        ("milvus://milvus.example.org/photos_2", "http://milvus.example.org:19530", None, "photos_2"),
        ("milvus+tls://10.0.0.7:443/_p", "https://10.0.0.7:443", None, "_p"),
        ("milvus:./index.db", None, "./index.db", "retrieve"),
        ("milvus:index.db", None, "index.db", "retrieve"),
        ("milvus:/srv/two words/é.db", None, "/srv/two words/é.db", "retrieve"),
    ],
)
def test_addresses(written: str, uri: str | None, file: str | None, name: str) -> None:
    assert parse_address(written) == MilvusAddress(written, name, uri, file)


def test_faiss_needs_no_address() -> None:
    assert parse_address("faiss") is None


@pytest.mark.parametrize(
    "written",
    [
        *("", "FAISS", "milvus", "milvus:", "milvus:.db", "milvus:index", "milvus:a/.db", "milvus://", "milvus://host"),
        *(
            "milvus://host:19530",
            "milvus://host:19530/",
            "milvus://host/two words",
            "milvus://host/1st",
            "milvus://h/é",
        ),
        *("http://host:19530/photos", "milvus://host:port/photos", "milvus://host/a/b", "milvus://host:1/../x.db"),
    ],
)
def test_a_malformed_address_is_refused_in_one_sentence(written: str) -> None:
    with pytest.raises(
        ValueError, match="is not the address of an index: give faiss, milvus://HOST:PORT/NAME"
    ) as raised:
        parse_address(written)
    assert "\n" not in str(raised.value)


def test_a_token_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="put it into RETRIEVE_MILVUS_TOKEN") as raised:
        parse_address("milvus://root:secret@host:19530/photos")
    assert "secret" not in str(raised.value)
