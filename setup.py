"""The extension in C. Everything else about the package is in pyproject.toml.

setuptools can read extensions from pyproject.toml too, but calls that experimental.
"""

from setuptools import Extension, setup

HEAD = Extension(
    "reactor_run.protocol._head",
    sources=["src/reactor_run/protocol/_head.c"],
    # Without debug symbols, which hold paths, it is the same file wherever it is built.
    extra_compile_args=["-O3", "-g0"],
    # If it cannot be built, Python does its work (src/reactor_run/native.py).
    optional=True,
)

setup(ext_modules=[HEAD])
