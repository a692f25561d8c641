"""Secrets of URLs: what is stripped of the ways in which services sign them, and what stays."""

from __future__ import annotations

import pytest
from topwork.errors import SourceError
from topwork.url_secrets import hide_secrets, without_secrets

SIGNED = {
    "AWS, version 4": "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260101%2Fus%2Fs3"
    "&X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature=f0e8"
    "&X-Amz-Security-Token=x",
    "AWS, version 2": "AWSAccessKeyId=AKIA&Expires=1141889120&Signature=vjby%3D",
    "Google, version 4": "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=a%40b&X-Goog-Date=20260101T000000Z"
    "&X-Goog-Expires=900&X-Goog-SignedHeaders=host&X-Goog-Signature=2d2a",
    "Google, version 2": "GoogleAccessId=a%40b&Expires=1458238630&Signature=VVUg",
    "CloudFront": "Expires=1357034400&Signature=nitf&Key-Pair-Id=K2JC",
    "CloudFront, custom policy": "Policy=eyAi&Signature=nitf&Key-Pair-Id=K2JC&Hash-Algorithm=SHA256",
    "Azure, service": "sv=2022-11-02&st=2026-04-29&se=2026&sr=b&sp=rw&sip=168.1.5.60&spr=https&sig=Z%2F",
    "Azure, account": "sv=2022-11-02&ss=bf&srt=s&st=2026&se=2027&sp=rw&sig=F%6A",
    "tokens": "token=a&access_token=b&api_key=c&Password=d",
}


@pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED)
def test_signed_url_is_the_url(query: str) -> None:
    url = "https://a.org/b/c%20d.png"
    assert without_secrets(f"{url}?{query}") == url
    assert without_secrets(f"{url}?page=2&{query}&x=") == f"{url}?page=2&x="


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://me:p%40ss@a.org/b", "https://a.org/b"),
        ("https://me:p@ss@a.org:8080/b?c@d", "https://a.org:8080/b?c@d"),
        ("ftp://me@a.org", "ftp://a.org"),
        ("simplecache::https://me:pw@a.org/b?sig=1#e", "simplecache::https://a.org/b#e"),
        ("zip://c.csv::https://me:pw@a.org/b.zip?token=x", "zip://c.csv::https://a.org/b.zip"),
    ],
)
def test_user_and_password_are_stripped(url: str, expected: str) -> None:
    assert without_secrets(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://a.org/b?key=1&page=2",
        "https://a.org/b?sp=1&st=2&expires=3",
        "s3://bucket/a@b/c.png",
        "https://a.org/sig=1/token",
        "no URL?token=x",
    ],
)
def test_what_is_no_secret_stays(url: str) -> None:
    assert hide_secrets(url) == url


def test_errors_hide_secrets() -> None:
    error = SourceError("source https://me:pw@a.org/b.csv?token=x&y=1 cannot be read: 'https://a.org/?sig=z'")
    assert str(error) == "source https://a.org/b.csv?y=1 cannot be read: 'https://a.org/'"
