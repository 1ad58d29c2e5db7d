"""Requests generated from the OpenAPI document, valid and invalid: each answer is described there and none is a 5xx."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

pytest.importorskip("schemathesis", reason="schemathesis is not installed")
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.served import served
from tests.support.store import Indexed

LONGEST_QUERY = 60_000  # bytes: uvicorn closes the connection of a request whose first line is longer than 64 KB
HEALTH = list(HealthCheck)  # the speed of generation is not tested
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def address(indexed: Indexed) -> Iterator[str]:
    with served(indexed.store) as address:
        yield address.rstrip("/")


@pytest.mark.slow
def test_no_request_breaks_the_server(address: str) -> None:
    document = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [result.ok() for result in document.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) > 12
    for operation in operations:
        valid, invalid = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

        @settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=HEALTH)
        @given(case=valid | invalid)
        def check(case: Case[Any]) -> None:
            query = urlencode(case.query or {}, doseq=True)
            assume(len(query) < LONGEST_QUERY and "verify=true" not in query.lower())  # that takes seconds a hit
            case.call_and_validate(base_url=address, checks=CHECKS, timeout=60)

        check()
