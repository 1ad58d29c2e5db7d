from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urljoin

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from retrieval.common.errors import RetrievalError
from retrieval.server.config import ServerConfig, is_loopback
from retrieval.server.middleware.security import COOKIE, tokens_in_cookies
from tests.support.command import PROJECT
from tests.support.served import HERE, client_of
from tests.support.store import Indexed

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def client(indexed: Indexed) -> Any:
    with client_of(indexed.store) as client:
        yield client


@pytest.fixture(scope="module")
def protected(indexed: Indexed) -> Any:
    config = ServerConfig(host="0.0.0.0", token=TOKEN, hosts=("photos.example",))
    with client_of(indexed.store, config, "http://192.0.2.7:8000") as client:
        yield client


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[", "10.0.0.1"])
def test_an_unknown_host_name_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/api/status", headers={"host": host})
    assert answer.status_code == 421
    assert "--allow-host" in answer.json()["error"]


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:8000", "[::1]:8000"])
def test_the_names_of_this_machine_are_accepted(client: TestClient, host: str) -> None:
    assert client.get("/api/status", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_requests_of_another_sites_page_are_refused(
    client: TestClient, method: str, headers: Mapping[str, str]
) -> None:
    assert client.request(method, "/api/status", headers=headers).status_code == 403


def test_a_link_from_another_site_may_be_followed(client: TestClient) -> None:
    follow = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/?picture=1", headers=follow).status_code == 200
    assert client.post("/api/index", headers=follow).status_code == 403
    own = {"origin": HERE, "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
    assert client.get("/api/status", headers=own).status_code == 200


def test_no_other_site_may_frame_an_answer(client: TestClient) -> None:
    framed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    assert client.get("/", headers=framed).status_code == 403
    link = framed | {"sec-fetch-dest": "document"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/api/export?picture=1", headers=link).status_code == 403


@pytest.mark.parametrize("options", [{"host": "0.0.0.0"}, {"hosts": ("a.example",)}, {"token": "a b"}, {"token": ""}])
def test_others_are_never_served_without_a_token(options: dict[str, Any]) -> None:
    with pytest.raises(RetrievalError, match="token"):
        ServerConfig(**options)


def test_other_sites_are_let_in_only_by_allow_origin(client: TestClient, indexed: Indexed) -> None:
    assert not any(name.startswith("access-control") for name in client.get("/api/status").headers)
    origin = "https://photos.example"
    with client_of(indexed.store, ServerConfig(origins=(origin,))) as allowing:
        answer = allowing.get("/api/status", headers={"origin": origin, "sec-fetch-site": "cross-site"})
        assert answer.headers["access-control-allow-origin"] == origin
        assert allowing.get("/api/status", headers={"origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/docs", "/api/status", "/nothing", "/api/pictures/1/image"])
def test_every_answer_has_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/api/status", "/static/main.js", "/docs", "/openapi.json", "/metrics"])
def test_without_the_token_nothing_is_answered(protected: TestClient, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}, {"cookie": f"{COOKIE}=wrong"}):
        answer = protected.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert list(answer.json()) == ["error"]
    assert protected.get(f"{path}?token=wrong").status_code == 401
    assert protected.get(f"{path}?token=").status_code == 401


def test_the_token_comes_as_a_header_or_moves_from_the_address_into_a_cookie(protected: TestClient) -> None:
    assert protected.get("/api/status", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    redirect = protected.get(f"/?picture=3&token={TOKEN}&view=factual")
    assert redirect.status_code == 303
    assert redirect.headers["location"] == "./?picture=3&view=factual"
    cookie = redirect.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert protected.get("/api/status").status_code == 200  # the client keeps the cookie
    protected.cookies.clear()
    assert protected.get(f"{protected.base_url}//evil.example?token={TOKEN}").headers["location"] == "../evil.example"
    protected.cookies.clear()
    address = f"{protected.base_url}/%09/evil.example?token={TOKEN}"
    assert protected.get(address).headers["location"] == "../%09/evil.example"
    protected.cookies.clear()


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        (f"/?token={TOKEN}", "/"),
        (f"/?token={TOKEN}&picture=3", "/?picture=3"),
        (f"/docs?token={TOKEN}", "/docs"),
        (f"/api/status?token={TOKEN}", "/api/status"),
        (f"/a%2Fb?token={TOKEN}", "/a/b"),
        ("/docs/?x=1", "/docs?x=1"),
        ("/api/pictures/1/image/", "/api/pictures/1/image"),
        ("/static", "/static/"),
    ],
)
@pytest.mark.parametrize("below", ["", "/retrieve", "/a/b/c"])
def test_a_redirect_stays_below_the_path_that_a_proxy_has_the_server_at(
    protected: TestClient, path: str, leads_to: str, below: str
) -> None:
    protected.cookies.clear()
    headers = {} if "token" in path else {"authorization": f"Bearer {TOKEN}"}
    answer = protected.get(f"{protected.base_url}{path}", headers=headers)
    location = answer.headers["location"]
    assert urljoin(f"https://photos.example{below}{path}", location) == f"https://photos.example{below}{leads_to}"
    protected.cookies.clear()


FOREIGN = ["a[b]=1", 'x={"q":1}', "foo=bar baz", 'foo="open', "=", "", "a==;;", "caf\xe9=\xff", f"{COOKIE}=another's"]


@given(st.lists(st.sampled_from(FOREIGN) | st.text("abc=\"'[]{}, \t", max_size=20), max_size=12), st.integers(0, 12))
def test_cookies_of_other_programs_hide_no_token(others: list[str], place: int) -> None:
    cookies = [*others[:place], f"{COOKIE}_1a2b={quote(TOKEN)}", *others[place:]]
    headers = Headers(raw=[(b"cookie", "; ".join(cookies).encode("latin-1"))])
    assert TOKEN in tokens_in_cookies(headers)


def test_servers_on_one_host_keep_their_cookies_apart(indexed: Indexed) -> None:
    names = set()
    for token in ("token-of-one", "token-of-another"):
        with client_of(indexed.store, ServerConfig(token=token)) as client:
            names.add(client.get(f"/?token={token}").headers["set-cookie"].partition("=")[0])
    assert len(names) == 2


def test_health_needs_no_token(protected: TestClient) -> None:
    protected.cookies.clear()
    assert protected.get("/health").json() == {"status": "ok"}


def test_with_a_token_any_address_is_accepted_but_no_other_name(protected: TestClient) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    for host, status in (("10.1.2.3", 200), ("photos.example:80", 200), ("evil.example", 421)):
        assert protected.get("/api/status", headers=headers | {"host": host}).status_code == status


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")),
        *((host, False) for host in ("0.0.0.0", "192.168.0.1", "::", "example.org")),
    ],
)
def test_loopback_addresses(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_page_needs_no_other_server() -> None:
    static = PROJECT / "retrieval" / "server" / "static"
    for file in static.iterdir():
        text = file.read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text
