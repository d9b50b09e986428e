"""Reporting: claims and their verdicts, pictures, experiments and the whole reproduction."""
