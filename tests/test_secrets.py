"""Short-lived keys: minted, good for a while, bounded in number and in how often."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.errors import ProtocolError, TooManyRequestsError
from assistant.rate_limit import RateLimit
from assistant.realtime.secrets import ClientSecretRequest, ClientSecrets


def lasting(seconds: int) -> ClientSecretRequest:
    return ClientSecretRequest.parse({"expires_after": {"seconds": seconds}})


def test_a_key_is_good_until_it_expires_and_brings_its_settings() -> None:
    secrets = ClientSecrets(10)
    asked = ClientSecretRequest.parse({"session": {"instructions": "Be brief."}})
    value, secret = secrets.mint(asked, 100.7)
    assert value.startswith("ek_") and len(value) > 40
    assert (secret.expires_at_s, secret.session) == (700, {"instructions": "Be brief."})
    assert secrets.find(value, 699.9) == secret
    assert secrets.find(value, 700.0) is None
    assert secrets.find(value[:-1], 100.7) is None
    assert secrets.mint(asked, 100.7)[0] != value


def test_at_the_bound_a_key_is_refused_until_one_expires() -> None:
    secrets = ClientSecrets(2)
    first, _ = secrets.mint(lasting(60), 0)
    second, _ = secrets.mint(lasting(20), 10)
    with pytest.raises(TooManyRequestsError) as caught:
        secrets.mint(lasting(10), 12)
    assert caught.value.retry_after_s == 18
    third, _ = secrets.mint(lasting(10), 30)
    found = [secrets.find(value, 30) is not None for value in (first, second, third)]
    assert found == [True, False, True]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"expires_after": {"seconds": 9}}, "expires_after.seconds"),
        ({"expires_after": {"seconds": 7201}}, "expires_after.seconds"),
        ({"expires_after": {"seconds": "20"}}, "expires_after.seconds"),
        ({"expires_after": {"seconds": 20.0}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "now"}}, "expires_after.anchor"),
        ({"expires_after": 20}, "expires_after"),
        ({"session": []}, "session"),
        ({"sesion": {}}, "sesion"),
    ],
)
def test_what_is_no_request_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        ClientSecretRequest.parse(body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "body",
    [
        {"expires_after": None, "session": None},
        {"expires_after": {"anchor": None, "seconds": None}},
        {"session": {}},
    ],
)
def test_null_is_as_if_it_was_left_out(body: dict[str, Any]) -> None:
    assert ClientSecretRequest.parse(body) == ClientSecretRequest()


def test_so_many_at_once_and_then_one_by_one() -> None:
    limit = RateLimit(per_minute=3)
    for _ in range(3):
        limit.take(1000)
    with pytest.raises(TooManyRequestsError) as caught:
        limit.take(1010)
    assert caught.value.retry_after_s == pytest.approx(10)
    limit.take(1020)
    with pytest.raises(TooManyRequestsError):
        limit.take(1039)


@given(st.integers(1, 20), st.lists(st.floats(0, 30), max_size=100))
def test_never_more_than_two_minutes_worth_in_one(per_minute: int, waits_s: list[float]) -> None:
    limit, now_s = RateLimit(per_minute), 0.0
    taken_s = []
    for wait_s in waits_s:
        now_s += wait_s
        try:
            limit.take(now_s)
        except TooManyRequestsError as error:
            assert 0 < error.retry_after_s <= 60 / per_minute
        else:
            taken_s.append(now_s)
    for begin_s in taken_s:
        within = [at_s for at_s in taken_s if begin_s <= at_s < begin_s + 60]
        assert len(within) <= 2 * per_minute
