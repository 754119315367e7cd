"""The web view: pages over a database of runs, for one person on their own machine."""
