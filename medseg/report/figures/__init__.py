"""Figures of the report: data frames and plain numbers → matplotlib figures.

Each function answers None where there is nothing to draw.
"""
