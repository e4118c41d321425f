"""How often the latency gate is wrong: traces, replays, live trials, and the usual rules beside it."""
