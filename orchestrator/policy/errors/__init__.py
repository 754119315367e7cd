"""What an error or a response means: the rules, the judgement and its verdicts."""
