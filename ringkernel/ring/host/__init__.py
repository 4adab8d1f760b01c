"""Rings as Python sees them."""
