"""The media type of a file, by its name.

The table is fixed, so that two machines say the same. What it does not know, Python's own table
may. The files of the system, such as /etc/mime.types, are not read.
"""

from __future__ import annotations

import mimetypes
from typing import Final, NamedTuple

__all__ = ["MediaType", "media_type"]

_TYPES: Final = {
    "text/html": "html htm",
    "text/css": "css",
    "text/javascript": "js mjs cjs",
    "text/plain": "txt text log conf ini",
    "text/csv": "csv",
    "text/markdown": "md markdown",
    "text/calendar": "ics",
    "text/vcard": "vcf",
    "text/vtt": "vtt",
    "text/xml": "xml xsl xsd",
    "text/yaml": "yaml yml",
    "application/json": "json map",
    "application/ld+json": "jsonld",
    "application/geo+json": "geojson",
    "application/manifest+json": "webmanifest",
    "application/atom+xml": "atom",
    "application/rss+xml": "rss",
    "application/xhtml+xml": "xhtml",
    "application/toml": "toml",
    "application/wasm": "wasm",
    "application/pdf": "pdf",
    "application/zip": "zip",
    "application/gzip": "gz tgz",
    "application/zstd": "zst",
    "application/x-brotli": "br",
    "application/x-bzip2": "bz2",
    "application/x-xz": "xz",
    "application/x-tar": "tar",
    "application/x-7z-compressed": "7z",
    "application/vnd.ms-fontobject": "eot",
    "application/epub+zip": "epub",
    "application/java-archive": "jar",
    "application/octet-stream": "bin exe dll so dmg iso img deb msi",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/apng": "apng",
    "image/jpeg": "jpg jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/jxl": "jxl",
    "image/bmp": "bmp",
    "image/tiff": "tif tiff",
    "image/vnd.microsoft.icon": "ico",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "font/ttf": "ttf",
    "font/otf": "otf",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/aac": "aac",
    "audio/ogg": "oga ogg opus",
    "audio/flac": "flac",
    "audio/wav": "wav",
    "audio/webm": "weba",
    "video/mp4": "mp4 m4v",
    "video/webm": "webm",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "video/mp2t": "ts",
    "application/vnd.apple.mpegurl": "m3u8",
}
_UNKNOWN: Final = "application/octet-stream"
_COMPRESSIBLE: Final = frozenset(
    {
        "application/wasm",
        "application/toml",
        "application/vnd.ms-fontobject",
        "font/otf",
        "font/ttf",
        "image/bmp",
        "image/vnd.microsoft.icon",
        "application/json",
    }
)
"""Types that shrink, besides those of text, of XML and of JSON."""


class MediaType(NamedTuple):
    """A media type, with the charset of text.

    compressible: files of this type shrink, so that one that was compressed before may exist.
    """

    value: bytes
    compressible: bool


def _described(name: str) -> MediaType:
    text = name.startswith("text/")
    return MediaType(
        f"{name}; charset=utf-8".encode() if text else name.encode(),
        text or name in _COMPRESSIBLE or name.endswith(("+xml", "+json")),
    )


_BY_EXTENSION: Final = {
    extension.encode(): _described(name)
    for name, extensions in _TYPES.items()
    for extension in extensions.split()
}
_python_types = mimetypes.MimeTypes(())


def media_type(name: bytes) -> MediaType:
    """Return the media type of a file of this name."""
    extension = name.rpartition(b"/")[2].rpartition(b".")[2].lower()
    known = _BY_EXTENSION.get(extension)
    if known is not None:
        return known
    guessed, coding = _python_types.guess_type("x." + extension.decode("latin-1"), strict=True)
    return _described(_UNKNOWN if guessed is None or coding is not None else guessed)
