"""Both ends of test traffic, each a process of its own: `server` is what is moved, `client` what must not notice."""
