"""Tests of what runs are shown as."""
