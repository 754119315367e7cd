"""What the simulated provider answers, and when: models, prompts, answers, usage, rate limits, events."""
