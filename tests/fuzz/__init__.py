"""Fuzz targets for what reads bytes: `make fuzz`, and over the seeds in every run of the tests."""
