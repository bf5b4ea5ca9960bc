"""Errors of libraries, cut to what fits into a message of one line."""
from __future__ import annotations


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where the text is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0]
