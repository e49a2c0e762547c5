"""Weights from other software, read without running anything stored in the files."""
