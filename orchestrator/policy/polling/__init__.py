"""When an open response is polled, and when it has taken too long."""
