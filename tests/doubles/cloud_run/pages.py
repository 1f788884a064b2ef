"""Google's front end in its own words: what it answers where no instance does."""

from __future__ import annotations

from tests.doubles.cloud_run.exchange import Exchange, Headers

HTML = "text/html; charset=UTF-8"
TEXT = "text/plain"
_PAGE = """
<html><head>
<meta http-equiv="content-type" content="text/html;charset=utf-8">
<title>{title}</title>
</head>
<body text=#000000 bgcolor=#ffffff>
<h1>Error: {heading}</h1>
<h2>{text}</h2>
<h2></h2>
</body></html>
"""
_TEXTS = {
    429: (TEXT, "Rate exceeded."),
    502: (TEXT, "upstream connect error or disconnect/reset before headers"),
    504: (TEXT, "upstream request timeout"),
}
_HEADINGS = {
    401: (
        "401 Unauthorized",
        "Unauthorized",
        "Your client does not have permission to the requested URL <code>{target}</code>.",
    ),
    403: (
        "403 Forbidden",
        "Forbidden",
        "Your client does not have permission to get URL <code>{target}</code> from this server.",
    ),
    404: (
        "404 Page not found",
        "Page not found",
        "The requested URL was not found on this server.",
    ),
    500: (
        "500 Server Error",
        "Server Error",
        "The server encountered an error and could not complete your request.<p>"
        "Please try again in 30 seconds.",
    ),
    503: (
        "503 Server Error",
        "Server Error",
        "The service you requested is not available yet.<p>Please try again in 30 seconds.",
    ),
}


async def answer(exchange: Exchange, status: int, headers: Headers = ()) -> None:
    """Answer with the platform's own page for a status."""
    if status in _TEXTS:
        kind, text = _TEXTS[status]
    else:
        title, heading, sentence = _HEADINGS[status]
        sentence = sentence.replace("{target}", exchange.target.partition("?")[0])
        kind, text = HTML, _PAGE.format(title=title, heading=heading, text=sentence)
    own = [("content-type", kind), ("server", "Google Frontend")]
    await exchange.answer(status, [*own, *headers], text.encode())
