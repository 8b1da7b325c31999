"""Finds the packages; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

# configs/ lies at the top, where users look for it, and is installed as medseg.configs
setup(packages=[*find_packages(include=["medseg", "medseg.*"]), "medseg.configs"])
