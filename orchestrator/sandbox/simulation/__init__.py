"""How the sandbox makes answers, function calls, tool results and streams without a model."""
