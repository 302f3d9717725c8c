"""Painting into songs and dataset items: inputs, windows over time, candidates, mixing, figures and pages."""
