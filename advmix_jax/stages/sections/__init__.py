"""Sections of the report, from what the other stages left: each a picture with its explanation."""
