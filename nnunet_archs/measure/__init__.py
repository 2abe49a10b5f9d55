"""Memory, counts and time of any module."""
