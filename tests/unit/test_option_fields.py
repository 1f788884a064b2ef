"""Addresses that secrets are sent to: which may be configured, and what is said of the others."""

from __future__ import annotations

import pytest

from outpost.model.option_fields import server_address


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com",
        "https://example.com:8443/api/",
        "https://[2001:db8::1]:443",
        "http://127.0.0.1:65535",
        "http://localhost",
        "http://[::1]:80/",
        "http://_api.internal:4280",
    ],
)
def test_what_is_safe_stays_as_it_is(address: str) -> None:
    assert server_address(address, within=(".internal",)) == address


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://example.com", "https:// is needed"),
        ("http://127.0.0.1.example.com", "https:// is needed"),
        ("http://api.internal", "https:// is needed"),
        ("https://me:hunter2@example.com", "no user and no password here"),
        ("http://hunter2@127.0.0.1", "no user and no password here"),
        ("https://me:hunter2@[::1", "no user and no password here"),
        ("https://[::1", "expected an address"),
        ("https://:443", "expected an address"),
        ("http://127.0.0.1:99999", "expected an address"),
        ("http://127.0.0.1:0", "expected an address"),
        ("https://example.com:hunter2", "expected an address"),
    ],
)
def test_others_are_refused_and_not_shown(address: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        server_address(address)
    assert "hunter2" not in str(caught.value)
