"""The extensions in C. Everything else about the package is in pyproject.toml.

setuptools can read extensions from pyproject.toml too, but calls that experimental.
"""

from setuptools import Extension, setup


def extension(name: str) -> Extension:
    """Return an extension that is optional: without it, Python does its work (native.py)."""
    return Extension(
        f"reactor_run.{name}",
        sources=[f"src/reactor_run/{name.replace('.', '/')}.c"],
        # Without debug symbols, which hold paths, it is the same file wherever it is built.
        extra_compile_args=["-O3", "-g0"],
        optional=True,
    )


setup(
    ext_modules=[
        extension("_memory"),
        extension("_sockets"),
        extension("protocol._frames"),
        extension("protocol._head"),
        extension("protocol._http2"),
        extension("protocol._response"),
    ]
)
