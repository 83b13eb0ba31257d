"""Verdicts on one point: linearisation, the state of rest, certificates, pieces at a kink."""
