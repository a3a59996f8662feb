"""Figures about requests, for operators: totals, histograms, the last failures."""
