"""Operators and lectures worked through: formulas, figures, pages."""
