"""End-to-end proof. A package, so that its lab ends before another tier starts one of its own."""
