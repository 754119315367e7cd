"""Notifications: who is notified of what, and how a notice is delivered."""
