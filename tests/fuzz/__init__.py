"""Fuzz targets for all code that reads bytes: `make fuzz`, and with their seeds in each test
run."""
