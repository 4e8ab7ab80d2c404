"""Decisions: facts in, decisions out."""
