"""Where rows come from: one module for each input format, and the plan of a run."""
