"""Scaling laws from one flag file."""
