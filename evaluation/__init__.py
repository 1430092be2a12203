"""Scores in, figures out: tables, metrics, intervals, spans, shortcuts, the report."""
