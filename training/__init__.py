"""From labelled rows to a bundle that can be served. May import everything below it; nothing below imports it."""
