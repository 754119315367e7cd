"""How fast requests may be sent: limits, pace, back-off and circuit breaker."""
