"""URLs without what gives access to them: user names, passwords, tokens and signatures."""

from __future__ import annotations

import re
from urllib.parse import unquote

SIGNING_PREFIXES = (
    "x-amz-",  # https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    "x-goog-",  # https://cloud.google.com/storage/docs/authentication/signatures
    "x-oss-",  # https://www.alibabacloud.com/help/en/oss/developer-reference/add-signatures-to-urls
    "q-sign-",  # https://www.tencentcloud.com/document/product/436/7778
)
SECRET_PARAMETERS = frozenset(
    (
        *("signature", "sig", "awsaccesskeyid", "googleaccessid", "ossaccesskeyid", "key-pair-id", "hdnts", "hdnea"),
        *("token", "access_token", "auth_token", "id_token", "refresh_token", "session_token", "security-token"),
        *("api_key", "apikey", "api-key", "auth", "authorization", "jwt", "password", "passwd", "secret"),
        *("client_secret", "__token__", "private_token"),
    )
)
"""Parameters that give access by themselves; signatures of S3 (version 2), Google, CloudFront, Akamai and tokens."""
PARAMETERS_BESIDE_A_SIGNATURE = frozenset(
    (
        *("expires", "policy", "hash-algorithm"),  # https://docs.aws.amazon.com/AmazonCloudFront: private content
        # https://learn.microsoft.com/en-us/rest/api/storageservices/create-service-sas, and those of accounts and users
        *("sv", "ss", "srt", "sp", "se", "st", "spr", "sip", "sr", "si", "ses", "sdd", "skoid", "sktid", "skt", "ske"),
        *("sks", "skv", "skdutid", "sduoid", "saoid", "suoid", "scid"),
    )
)
"""Parameters that belong to a signature, and mean something else without one."""
SIGNATURE_PARAMETERS = ("signature", "sig")
URL_IN_TEXT = re.compile(r"[a-z][\w+.-]*://[^\s<>\"'`]+", re.IGNORECASE)
USER_INFORMATION = re.compile(r"(?<=://)[^/?#]*@")


def hide_secrets(text: str) -> str:
    """Return a text whose URLs carry no user name, password, token or signature.

    Examples
    --------
    >>> hide_secrets("https://me:pw@a.org/b.csv?page=2&sig=x&se=2030 cannot be read")
    'https://a.org/b.csv?page=2 cannot be read'
    """
    if "://" not in text:
        return text
    return URL_IN_TEXT.sub(lambda match: without_secrets(match[0]), text)


def without_secrets(url: str) -> str:
    """Return a URL, or a chain of several, without what gives access to it; the rest is not changed."""
    return "::".join(_clean_link(link) for link in url.split("::"))


def _clean_link(url: str) -> str:
    url = USER_INFORMATION.sub("", url)
    address, mark, rest = url.partition("?")
    if not mark:
        return url
    query, fragment_mark, fragment = rest.partition("#")
    parameters = query.split("&")
    names = [unquote(parameter.partition("=")[0]).lower() for parameter in parameters]
    is_signed = any(name in SIGNATURE_PARAMETERS for name in names)
    kept = [
        parameter
        for parameter, name in zip(parameters, names, strict=True)
        if not _is_secret(name, is_signed=is_signed)
    ]
    if len(kept) == len(parameters):
        return url
    query_kept = "?" + "&".join(kept) if kept else ""
    return address + query_kept + fragment_mark + fragment


def _find_name(parameter: str) -> str:
    return unquote(parameter.partition("=")[0]).lower()


def _is_secret(name: str, *, is_signed: bool) -> bool:
    if name in SECRET_PARAMETERS or name.startswith(SIGNING_PREFIXES):
        return True
    return is_signed and name in PARAMETERS_BESIDE_A_SIGNATURE
