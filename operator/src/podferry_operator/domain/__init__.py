"""Pure decisions: observe → plan → act, of which the plan is here. No I/O, no clock, no memory between two calls."""
